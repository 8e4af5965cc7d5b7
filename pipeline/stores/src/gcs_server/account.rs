//! Who may ask: a service account, by tokens that its key has signed, and the machine that the server's metadata service is of.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use std::io::{Error, Result};
use std::time::{SystemTime, UNIX_EPOCH};

const PEM: &str = include_str!("account.pem");
const EMAIL: &str = "tests@lapidary.iam.gserviceaccount.com";
const KEY_ID: &str = "1";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What the metadata service gives the machine.
const TOKEN: &str = "token-of-the-lapidary-tests";
/// A token that was signed in the future is of a clock that runs ahead by no more than this.
const SKEW_SECS: u64 = 60;

/// The account whose requests are answered.
pub(super) struct Account {
    public_key: Vec<u8>,
}

impl Account {
    pub(super) fn of_tests() -> Result<Self> {
        let der =
            BASE64_STANDARD.decode(private_key().lines().filter(|line| !line.starts_with("-----")).collect::<String>());
        let pair = KeyPair::from_pkcs8(&der.map_err(Error::other)?).map_err(Error::other)?;
        Ok(Self { public_key: pair.public().as_ref().to_vec() })
    }

    /// The file that Google's console would give for it, with the address of this server.
    pub(super) fn json(port: u16) -> String {
        json!({"type": "service_account", "client_email": EMAIL, "private_key_id": KEY_ID, "private_key": private_key(),
            "gcs_base_url": format!("http://127.0.0.1:{port}")})
        .to_string()
    }

    /// What the metadata service answers.
    pub(super) fn token_of_the_machine() -> String {
        json!({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}).to_string()
    }

    /// Whether a header `Authorization` lets a request in.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        token.is_some_and(|token| token == TOKEN || self.has_signed(token).unwrap_or(false))
    }

    /// Whether this is a token of the account (RFC 7519, RS256) that holds now; none where it is no token.
    fn has_signed(&self, token: &str) -> Option<bool> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let json = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let (header, claims) = (json(header)?, json(claims)?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        Some(
            key.verify(message.as_bytes(), &signature).is_ok()
                && (&header["alg"], &header["kid"]) == (&json!("RS256"), &json!(KEY_ID))
                && (&claims["iss"], &claims["sub"]) == (&json!(EMAIL), &json!(EMAIL))
                && claims["scope"] == SCOPE
                && claims["iat"].as_u64()? <= now + SKEW_SECS
                && claims["exp"].as_u64()? > now,
        )
    }
}

/// The key as a service account's file has it, without what is said above it.
fn private_key() -> &'static str {
    PEM.find("-----BEGIN").map_or("", |begin| &PEM[begin..])
}
