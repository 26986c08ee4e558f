//! The macro by which a layer declares its settings.

/// Declares a struct of settings, which has [`Settings`](super::Settings), `Default` and serde.
///
/// ```text
/// settings! {
///     /// How shelves are kept.
///     pub struct ShelfSettings under "Shelves" {          // the heading in help; none if it is left away
///         /// Bytes that a shelf may take.
///         pub quota as "shelf-quota": ByteSize = ByteSize::gib(8), "SIZE";
///         //  field     key          type        default           name of the value in help, and perhaps a `Range`
///     }
///     nested {                                            // structs of settings of its own, whose keys are keys of it
///         /// How much of it is …
///         pub limits: Limits;
///     }
///     beside {                                            // what is no setting, as it follows from others
///         /// The seed.
///         pub seed: u64 = 0;
///     }
/// }
/// ```
///
/// The documentation is the help. Keys are unique in the whole program, where all structs are one flat list.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(under $heading:literal)? {
            $(
                $(#[doc = $doc:literal])*
                $field_vis:vis $field:ident as $key:literal: $type:ty = $default:expr, $value_name:literal $(, $range:expr)?;
            )*
        }
        $(nested { $( $(#[doc = $nested_doc:literal])* $nested_vis:vis $nested:ident: $nested_type:ty; )* })?
        $(beside { $( $(#[doc = $beside_doc:literal])* $beside_vis:vis $beside:ident: $beside_type:ty = $beside_default:expr; )* })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])* $field_vis $field: $type, )*
            $($( $(#[doc = $nested_doc])* $nested_vis $nested: $nested_type, )*)?
            $($( $(#[doc = $beside_doc])* $beside_vis $beside: $beside_type, )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $($( $nested: <$nested_type>::default(), )*)?
                    $($( $beside: $beside_default, )*)?
                }
            }
        }

        impl $crate::settings::Settings for $name {
            fn fields() -> Vec<$crate::settings::Field> {
                let heading = [$(Some($heading),)? None][0];
                #[allow(unused_mut)]
                let mut fields = vec![$(
                    $crate::settings::Field {
                        key: $key,
                        docs: &[$($doc),*],
                        value_name: $value_name,
                        heading,
                        form: <$type as $crate::settings::Value>::FORM,
                        range: [$($range,)? $crate::settings::Range::ANY][0],
                        default: || <$type as $crate::settings::Value>::write(&$default),
                    },
                )*];
                $($( fields.extend(<$nested_type as $crate::settings::Settings>::fields()); )*)?
                fields
            }

            fn read(values: &$crate::settings::Values) -> Result<Self, $crate::settings::Mistake> {
                let mut fields = Self::fields().into_iter();
                // In the order of their declaration, which is that of the list.
                let mut next = || fields.next().unwrap_or_else(|| unreachable!("each field is in the list"));
                Ok(Self {
                    $( $field: $crate::settings::read_field::<$type>(values, &next(), || $default)?, )*
                    $($( $nested: <$nested_type as $crate::settings::Settings>::read(values)?, )*)?
                    $($( $beside: $beside_default, )*)?
                })
            }

            fn written(&self) -> Vec<($crate::settings::Field, $crate::settings::Written)> {
                let values = vec![$( <$type as $crate::settings::Value>::write(&self.$field), )*];
                let fields = Self::fields().into_iter().zip(values);
                #[allow(unused_mut)]
                let mut written: Vec<_> = fields.filter_map(|(field, value)| Some((field, value?))).collect();
                $($( written.extend($crate::settings::Settings::written(&self.$nested)); )*)?
                written
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::settings::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::settings::deserialize(deserializer)
            }
        }
    };
}

pub(crate) use settings;
