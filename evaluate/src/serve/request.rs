//! What a request's address asks for: its path in parts, decoded, and its parameters.

use super::answer::Answer;
use std::fmt::Write;

/// Bytes of an address at most: a lasso of some hundred corners has a few thousand.
const ADDRESS_BYTES_MAX: usize = 16 << 10;

/// A request's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The parts of the path, none of them empty.
    pub(super) path: Vec<String>,
    parameters: Vec<(String, String)>,
}

impl Asked {
    /// Reads an address as it came.
    ///
    /// # Errors
    /// With the answer to give, when it is too long, is not UTF-8, or has a part that no name of ours can be.
    pub(super) fn read(address: &str) -> Result<Self, Box<Answer>> {
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Box::new(Answer::error(414, "the address is too long")));
        }
        let bad = |text: &str| Box::new(Answer::error(400, text));
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let decode = |text: &str| decoded(text).ok_or_else(|| bad("the address is no UTF-8, or badly encoded"));
        let path = path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Result<Vec<String>, _>>()?;
        let climbs = |part: &String| part == "." || part == ".." || part.contains(['/', '\\', '\0']);
        if path.iter().any(climbs) {
            return Err(bad("the path has a part that no name can be"));
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(&value.replace('+', " "))?))
        });
        Ok(Self { path, parameters: pairs.collect::<Result<_, Box<Answer>>>()? })
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A parameter that is a number, where it is there.
    ///
    /// # Errors
    /// With the answer to give, when it is none.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Box<Answer>> {
        let parse = |value: &str| {
            value.parse().map_err(|_| Box::new(Answer::error(400, &format!("`{name}` is no such number"))))
        };
        self.get(name).map(parse).transpose()
    }

    /// The address without a parameter.
    pub(super) fn without(&self, name: &str) -> String {
        let path: String = self.path.iter().map(|part| format!("/{}", encoded(part))).collect();
        let kept = self.parameters.iter().filter(|(key, _)| key != name);
        let query: Vec<String> = kept.map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        let path = if path.is_empty() { "/" } else { &path };
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_parameters_are_decoded() {
        let asked = Asked::read("/thumb/my%20birds/00ff?px=160&class=a%26b+c&empty=").expect("it is read");
        assert_eq!(asked.path, ["thumb", "my birds", "00ff"]);
        assert_eq!((asked.get("class"), asked.get("empty"), asked.get("none")), (Some("a&b c"), None, None));
        assert!(matches!(asked.number::<u32>("px"), Ok(Some(160))));
        assert!(asked.number::<u32>("class").is_err());
        assert_eq!(asked.without("px"), "/thumb/my%20birds/00ff?class=a%26b%20c&empty=");
    }

    #[test]
    fn what_climbs_or_is_no_text_is_refused() {
        for address in
            ["/a/../b", "/a/%2e%2e/b", "/a/..%2fb", "/%2Fetc/passwd", "/a%5Cb", "/%00", "/%ff", "/%zz", "/%a"]
        {
            assert_eq!(Asked::read(address).expect_err(address).status, 400, "{address}");
        }
        assert_eq!(Asked::read(&"/a".repeat(20_000)).expect_err("long").status, 414);
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(address in ".{0,200}") {
            if let Ok(asked) = Asked::read(&address) {
                prop_assert!(asked.path.iter().all(|part| part != ".." && !part.contains('/')));
            }
        }
    }
}
