//! Finds the modules that use each other in a circle.

use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// The sources of the crate by the path of their module; that of lib.rs is empty.
pub(crate) type Sources = BTreeMap<Vec<String>, Source>;

/// The module that a path in `from` leads to, through at most `depth` re-exports. `None` for paths outside this crate.
fn resolve(sources: &Sources, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let mut module = from.to_vec();
    let mut path = path;
    match path.first()?.as_str() {
        "crate" => module.clear(),
        "self" => {}
        "super" => _ = module.pop(),
        first => {
            module.push(first.to_owned());
            sources.get(&module)?;
        }
    }
    path = &path[1..];
    while let Some((name, rest)) = path.split_first() {
        path = rest;
        let inner = [module.as_slice(), std::slice::from_ref(name)].concat();
        if name == "super" {
            module.pop();
        } else if sources.contains_key(&inner) {
            module = inner;
        } else if let Some(target) = sources.get(&module).and_then(|source| source.names.get(name)) {
            let further = depth.checked_sub(1)?;
            return resolve(sources, &module, &[target.as_slice(), rest].concat(), further);
        } else {
            break;
        }
    }
    Some(module)
}

/// Which children of a module use which others: by parent, then by user, with an example.
pub(crate) type Uses = BTreeMap<Vec<String>, BTreeMap<(String, String), String>>;

/// A use between two modules counts as a use between the children of their common ancestor that contain them. A use
/// between a parent and its child doesn't count.
pub(crate) fn uses_between_siblings(sources: &Sources) -> Uses {
    let mut uses = Uses::new();
    for (module, source) in sources {
        for path in &source.paths {
            let Some(target) = resolve(sources, module, path, 8) else { continue };
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(user), Some(used)) = (module.get(common), target.get(common)) {
                let example = format!("{} uses {}", module.join("/"), path.join("::"));
                let between = uses.entry(module[..common].to_vec()).or_default();
                between.entry((user.clone(), used.clone())).or_insert(example);
            }
        }
    }
    uses
}

/// Children of one module that use each other, directly or through others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// The module; empty for the crate itself.
    pub(crate) parent: String,
    pub(crate) children: Vec<String>,
    /// A use for each pair of them.
    pub(crate) uses: Vec<String>,
}

impl Circle {
    /// Whether it is one of these children of this module, or of some of them.
    pub(crate) fn is_within(&self, parent: &str, children: &[&str]) -> bool {
        self.parent == parent && self.children.iter().all(|child| children.contains(&child.as_str()))
    }

    pub(crate) fn has(&self, child: &str) -> bool {
        self.children.iter().any(|one| one == child)
    }
}

/// All of them.
pub(crate) fn circles(sources: &Sources) -> Vec<Circle> {
    let mut found = Vec::new();
    for (parent, uses) in uses_between_siblings(sources) {
        let mut reached: BTreeSet<(String, String)> = uses.keys().cloned().collect();
        loop {
            let further: Vec<_> = reached
                .iter()
                .flat_map(|(one, by)| {
                    uses.keys().filter(move |(user, _)| user == by).map(|(_, used)| (one.clone(), used.clone()))
                })
                .filter(|pair| !reached.contains(pair))
                .collect();
            if further.is_empty() {
                break;
            }
            reached.extend(further);
        }
        let both = |one: &String, other: &String| {
            reached.contains(&(one.clone(), other.clone())) && reached.contains(&(other.clone(), one.clone()))
        };
        let mut left: BTreeSet<&String> = uses.keys().map(|(user, _)| user).filter(|user| both(user, user)).collect();
        while let Some(first) = left.first().copied() {
            let circle: Vec<String> =
                left.iter().filter(|other| both(first, other)).map(|name| (*name).clone()).collect();
            left.retain(|name| !circle.contains(name));
            let inside = |(user, used): &(String, String)| circle.contains(user) && circle.contains(used);
            let examples = uses.iter().filter(|(pair, _)| inside(pair)).map(|(_, example)| example.clone()).collect();
            found.push(Circle { parent: parent.join("/"), children: circle, uses: examples });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these modules: each with its children, joined by a space.
    fn found(modules: &[(&str, &str)]) -> Vec<(String, String)> {
        let path = |module: &str| module.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let sources = modules.iter().map(|(module, source)| (path(module), Source::read(source))).collect();
        circles(&sources).into_iter().map(|circle| (circle.parent, circle.children.join(" "))).collect()
    }

    fn circle(parent: &str, children: &str) -> Vec<(String, String)> {
        vec![(parent.to_owned(), children.to_owned())]
    }

    #[test]
    fn circles_are_found_at_every_depth() {
        assert_eq!(found(&[("a", "use super::b::X;"), ("b", "use crate::a;")]), circle("", "a b"));
        let three =
            [("p", ""), ("p/a", "use super::b;"), ("p/b", "fn f() { super::c::g() }"), ("p/c", "use crate::p::a::X;")];
        assert_eq!(found(&three), circle("p", "a b c"));
        // Deeper modules count for the child that contains them.
        let deep = [("p", ""), ("p/a", ""), ("p/a/x", "use super::super::b;"), ("p/b", "use super::a::x::X;")];
        assert_eq!(found(&deep), circle("p", "a b"));
    }

    #[test]
    fn a_name_that_the_parent_passes_on_is_of_its_child() {
        let parent = "mod a; mod b; pub use self::{a::One, b::{Two as Second}};";
        assert_eq!(
            found(&[("p", parent), ("p/a", "use super::Second;"), ("p/b", "use super::One;")]),
            circle("p", "a b")
        );
        let relative = "mod a; mod b; use b::Two;";
        assert_eq!(found(&[("p", relative), ("p/a", "use super::Two;"), ("p/b", "use super::a;")]), circle("p", "a b"));
        let twice = [("", "pub use p::One;"), ("p", parent), ("p/a", "use super::b;"), ("p/b", "use crate::One;")];
        assert_eq!(found(&twice), circle("p", "a b"));
    }

    #[test]
    fn what_goes_one_way_is_none() {
        let parent = "mod a; mod b; pub use self::{a::One, b::Two}; pub struct Own;";
        assert!(found(&[("p", parent), ("p/a", "use super::{Own, Two};"), ("p/b", "use super::Own;")]).is_empty());
        let tests = "#[cfg(test)] mod tests { use super::super::a; } // use super::a;";
        assert!(found(&[("p", ""), ("p/a", "use super::b;"), ("p/b", tests)]).is_empty());
        assert!(found(&[("a", "use b::b;"), ("b", "use a::a; use std::io;")]).is_empty());
    }
}
