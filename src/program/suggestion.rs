//! Suggests the known name that an unknown one was probably meant to be.

/// How similar two names must be, from 0 to 1, for one to be suggested for the other. The value that clap uses for its
/// flags.
const LEAST_LIKENESS: f64 = 0.7;

/// The known name that is most similar to this one; `None` if none is similar. Case, `-`, `_` and spaces make no
/// difference.
pub(crate) fn most_alike<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | ' ')).collect::<String>();
    let name = plain(name);
    let likeness = |known: &str| {
        let known = plain(known);
        // A name with its end missing is more likely to be meant than one that is similar in the middle.
        strsim::jaro(&name, &known).max(strsim::jaro_winkler(&name, &known) - 0.1)
    };
    let alike = known.into_iter().map(|known| (likeness(known), known)).filter(|(alike, _)| *alike > LEAST_LIKENESS);
    // The first of equally similar ones.
    let best = alike.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, known)| known)
}

/// `; did you mean NAME?`, or nothing if no known name is like it.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    most_alike(name, known).map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let known = ["epochs", "epochs-between-folds", "data-dir", "data-seed", "steps-per-epoch", "lr", "federation"];
        for (name, meant) in [
            ("epoch", Some("epochs")),
            ("epochs_between_fold", Some("epochs-between-folds")),
            ("steps_per_epoch", Some("steps-per-epoch")),
            ("DATA_DIR", Some("data-dir")),
            ("federations", Some("federation")),
            ("Lr", Some("lr")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(most_alike(name, known), meant, "{name}");
        }
        assert_eq!(did_you_mean("epoch", known), "; did you mean epochs?");
        assert_eq!(did_you_mean("zzz", known), "");
    }
}
