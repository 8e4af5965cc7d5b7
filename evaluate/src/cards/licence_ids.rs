//! The ids by which the hub knows licences, from what sources call them.

use lapidary_pipeline::LicenceCount;
use serde_json::Value;

/// The Creative Commons licences that the hub has an id for.
const CREATIVE_COMMONS: [&str; 17] = [
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "pddl",
];

/// The address of a licence's text, from the source's records of its licences.
pub(super) fn address<'a>(name: &str, records: &'a Value) -> Option<&'a str> {
    let of_name = |record: &&Value| record["name"].as_str() == Some(name);
    records.as_array()?.iter().find(of_name)?["url"].as_str().filter(|url| !url.is_empty())
}

/// The hub's id for a licence: `unknown` where none is stated, `other` for one that it has no id for.
pub(super) fn hub_id(name: &str, address: Option<&str>) -> String {
    if name.is_empty() && address.is_none() {
        return "unknown".to_owned();
    }
    let from_address = address.and_then(of_creative_commons);
    let plain: String = name.to_lowercase().replace([' ', '_'], "-");
    let plain = if plain == "cc0" { "cc0-1.0".to_owned() } else { plain };
    let from_name = std::iter::once(plain.as_str()).find(|name| CREATIVE_COMMONS.contains(name)).map(str::to_owned);
    from_address.or(from_name).unwrap_or_else(|| "other".to_owned())
}

/// `https://creativecommons.org/licenses/by-nc/2.0/` is `cc-by-nc-2.0`.
fn of_creative_commons(address: &str) -> Option<String> {
    let path = address.split_once("creativecommons.org/")?.1;
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let id = match (parts.next()?, parts.next()?, parts.next()?) {
        ("licenses", kind, version) => format!("cc-{kind}-{version}"),
        ("publicdomain", "zero", version) => format!("cc0-{version}"),
        _ => return None,
    };
    CREATIVE_COMMONS.contains(&id.as_str()).then_some(id)
}

/// The ids of all licences of a set, each once, sorted.
pub(super) fn hub_ids(licences: &[LicenceCount], records: &Value) -> Vec<String> {
    let mut ids: Vec<String> =
        licences.iter().map(|licence| hub_id(&licence.name, address(&licence.name, records))).collect();
    ids.sort();
    ids.dedup();
    if ids.is_empty() { vec!["unknown".to_owned()] } else { ids }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_coco_calls_its_licences_gets_the_hubs_ids() {
        let records = json!([
            {"id": 1, "name": "Attribution-NonCommercial-ShareAlike License", "url": "http://creativecommons.org/licenses/by-nc-sa/2.0/"},
            {"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"},
            {"id": 7, "name": "No known copyright restrictions", "url": "http://flickr.com/commons/usage/"},
        ]);
        let of = |name: &str| hub_id(name, address(name, &records));
        assert_eq!(of("Attribution License"), "cc-by-2.0");
        assert_eq!(of("Attribution-NonCommercial-ShareAlike License"), "cc-by-nc-sa-2.0");
        assert_eq!(of("No known copyright restrictions"), "other");
        assert_eq!(
            (of("CC BY 4.0"), of("CC0"), of("")),
            ("cc-by-4.0".to_owned(), "cc0-1.0".to_owned(), "unknown".to_owned())
        );
        assert_eq!(hub_ids(&[], &records), ["unknown"]);
    }
}
