//! Credentials of the environment, which no text that people see holds.

/// Variables of the environment whose values are never shown, by how their names begin and what they hold.
const PREFIXES: &[&str] = &["AWS_", "AZURE_", "GOOGLE_"];
const PARTS: &[&str] = &["KEY", "SECRET", "TOKEN", "PASSWORD", "SAS", "CREDENTIAL"];
/// Variables that are called like secrets and hold a path, an address or a name.
const PLAIN: &[&str] = &["_FILE", "_PATH", "_URI", "_URL", "GOOGLE_APPLICATION_CREDENTIALS"];
/// Shorter values would blot out ordinary words; no store takes a key so short.
const CHARS_MIN: usize = 8;

/// A text without the values of the environment's credentials.
pub fn scrub(text: &str) -> String {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    without(text, secrets_among(variables))
}

/// The values that are secret.
pub(crate) fn secrets_among(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let is_secret = |name: &str| {
        PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && PARTS.iter().any(|part| name.contains(part))
            && !PLAIN.iter().any(|plain| name.ends_with(plain))
    };
    variables.filter(|(name, value)| is_secret(name) && value.len() >= CHARS_MIN).map(|(_, value)| value).collect()
}

/// A text without some values; what holds another goes first.
pub(crate) fn without(text: &str, mut secrets: Vec<String>) -> String {
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_secret_and_paths_are_not() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "AKIDEXAMPLE/secret"),
            ("AWS_SESSION_TOKEN", "short"),
            ("GOOGLE_SERVICE_ACCOUNT", "/home/me/account.json"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"private_key\": 1}"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/adc.json"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
            ("AWS_REGION", "us-east-1"),
            ("MY_KEY", "not-of-a-store"),
        ];
        let secrets = secrets_among(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(secrets, ["AKIDEXAMPLE", "AKIDEXAMPLE/secret", "{\"private_key\": 1}"]);
        let said = "<Code>x</Code><AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId> AKIDEXAMPLE/secret in a short word";
        let scrubbed = without(said, secrets);
        assert_eq!(scrubbed, "<Code>x</Code><AWSAccessKeyId>***</AWSAccessKeyId> *** in a short word");
    }
}
