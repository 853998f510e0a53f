//! Sets of HTTP request methods, as a resource names them.
//!
//! In: method names as written in a policy or sent by a client. Out: whether a set holds a method.
//! Always holds: methods compare without case, and a set with GET also holds HEAD (PRODUCT.md, Resource patterns).

/// The methods a resource covers. Names are kept upper-case, sorted, without doubles; none at all means every method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet {
    names: Vec<Box<str>>,
}

impl MethodSet {
    /// Every method.
    #[must_use]
    pub const fn all() -> Self {
        Self { names: Vec::new() }
    }

    /// The set of `names`; an empty list is every method. HEAD is added where GET is named.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<str>> =
            names.into_iter().map(|name| name.to_ascii_uppercase().into_boxed_str()).collect();
        if names.iter().any(|name| &**name == "GET") {
            names.push("HEAD".into());
        }
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// Whether every method is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.names.is_empty()
    }

    /// The names, upper-case and sorted; empty for every method.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Whether `method` is in the set, whatever its case.
    #[must_use]
    pub fn contains(&self, method: &[u8]) -> bool {
        self.is_all() || self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(method))
    }

    /// Whether every method of `self` is in `other`.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        other.is_all()
            || (!self.is_all() && self.names.iter().all(|name| other.names.contains(name)))
    }

    /// Whether some method is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_all() || other.is_all() || self.names.iter().any(|name| other.names.contains(name))
    }
}
