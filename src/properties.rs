//! Property lists: `head,name=value,...`, with `,,` for a comma in a value. One parser for all
//! options that take one.

/// A parsed property list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    head: Option<String>,
    pairs: Vec<(String, String)>,
}

/// What is wrong with a property list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PropertyError {
    /// An item behind the first has no `=`.
    #[error("'{0}' is no name=value pair")]
    NoValue(String),
    /// The same property stands twice.
    #[error("property '{0}' is given twice")]
    Twice(String),
    /// No such property.
    #[error("no property '{given}'{}", nearest.as_ref().map_or_else(String::new, |n| format!("; did you mean '{n}'?")))]
    Unknown {
        /// As the user wrote it.
        given: String,
        /// The nearest valid one.
        nearest: Option<String>,
    },
}

impl Properties {
    /// Parses a list; its first item may have no name.
    ///
    /// # Errors
    /// If a later item is no pair, or a name stands twice.
    pub fn parse(text: &str) -> Result<Self, PropertyError> {
        let mut list = Self::default();
        for (at, item) in split(text).into_iter().enumerate() {
            match item.split_once('=') {
                Some((name, _)) if list.get(name).is_some() => {
                    return Err(PropertyError::Twice(name.to_string()));
                }
                Some((name, value)) => list.pairs.push((name.to_string(), value.to_string())),
                None if at == 0 => list.head = Some(item),
                None => return Err(PropertyError::NoValue(item)),
            }
        }
        Ok(list)
    }

    /// The first item, if it has no name.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sets a property, unless it is set already.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.pairs.push((name.to_string(), value.to_string()));
        }
    }

    /// Refuses properties other than `names`.
    ///
    /// # Errors
    /// If there is another; with the nearest valid name.
    pub fn only(&self, names: &[&str]) -> Result<(), PropertyError> {
        match self
            .pairs
            .iter()
            .find(|(name, _)| !names.contains(&name.as_str()))
        {
            None => Ok(()),
            Some((given, _)) => Err(PropertyError::Unknown {
                given: given.clone(),
                nearest: nearest(given, names.iter().copied()).map(str::to_string),
            }),
        }
    }
}

/// Splits at single commas; two in a row are one that belongs to the item.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let end = c == ',' && chars.next_if_eq(&',').is_none();
        match items.last_mut() {
            Some(item) if !end => item.push(c),
            _ => items.push(String::new()),
        }
    }
    items
}

/// The name among `names` that is nearest to `given`, if one is near at all.
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(given, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.5).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_commas_are_part_of_a_value() {
        let list = Properties::parse("file,path=a,,b,size=3").expect("a list");
        assert_eq!(list.head(), Some("file"));
        assert_eq!(list.get("path"), Some("a,b"));
        assert_eq!(list.get("size"), Some("3"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            Properties::parse("a,b"),
            Err(PropertyError::NoValue("b".into()))
        );
        assert_eq!(
            Properties::parse("a,b=1,b=2"),
            Err(PropertyError::Twice("b".into()))
        );
        let list = Properties::parse("dev,iobas=1").expect("a list");
        let nearest = Some("iobase".to_string());
        assert_eq!(
            list.only(&["iobase", "iosize"]),
            Err(PropertyError::Unknown {
                given: "iobas".into(),
                nearest
            })
        );
    }

    #[test]
    fn nothing_is_near_to_nonsense() {
        assert_eq!(nearest("qqq", ["tcg", "kvm"]), None);
        assert_eq!(nearest("kmv", ["tcg", "kvm"]), Some("kvm"));
    }
}
