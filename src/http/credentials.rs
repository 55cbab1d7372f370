//! The `credentials` of a body: what a workspace's agent wants to see of who calls it.

use super::body::Fields;
use super::error::Fault;
use crate::dispatch::Credential;
use crate::domain::{SealedCredential, WorkspaceId};
use crate::secrets::{Error, Secrets};

/// What a body says of them: nothing, that there are none, or these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Credentials {
    Unsaid,
    None,
    Given(Credential),
}

impl Credentials {
    pub(crate) fn read(fields: &Fields) -> Result<Self, Fault> {
        match fields.raw("credentials") {
            None => return Ok(Self::Unsaid),
            Some(serde_json::Value::Null) => return Ok(Self::None),
            Some(_) => {}
        }
        let members = fields.object("credentials")?.unwrap_or_default();
        let credential = given(&members).map_err(|fault| Fault {
            field: within(fault.field),
            ..fault
        })?;
        match credential.fault() {
            None => Ok(Self::Given(credential)),
            Some((field, why)) => Err(Fault::new(field, why)),
        }
    }

    /// As they are stored with this workspace; the outer `None` leaves them as they are.
    #[expect(clippy::option_option, reason = "left alone, or none any more")]
    pub(crate) fn sealed(
        &self,
        secrets: &Secrets,
        workspace: WorkspaceId,
    ) -> Result<Option<Option<SealedCredential>>, Error> {
        Ok(match self {
            Self::Unsaid => None,
            Self::None => Some(None),
            Self::Given(credential) => Some(Some(credential.seal(secrets, workspace)?)),
        })
    }
}

fn given(members: &Fields) -> Result<Credential, Fault> {
    let part = |name| members.required_text(name);
    Ok(match part("scheme")?.as_str() {
        "bearer" => Credential::Bearer {
            token: part("token")?,
        },
        "api_key" => Credential::ApiKey {
            header: part("header")?,
            value: part("value")?,
        },
        "basic" => Credential::Basic {
            username: part("username")?,
            password: members.text("password")?.unwrap_or_default(),
        },
        _ => {
            return Err(Fault::new(
                "scheme",
                "is none of 'bearer', 'api_key', 'basic'",
            ));
        }
    })
}

fn within(field: &'static str) -> &'static str {
    match field {
        "scheme" => "credentials.scheme",
        "token" => "credentials.token",
        "header" => "credentials.header",
        "value" => "credentials.value",
        "username" => "credentials.username",
        "password" => "credentials.password",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &serde_json::Value) -> Result<Credentials, Fault> {
        Credentials::read(&Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn what_is_not_said_stays_and_null_takes_away() {
        assert_eq!(read(&json!({})), Ok(Credentials::Unsaid));
        assert_eq!(read(&json!({"credentials": null})), Ok(Credentials::None));
        let basic = json!({"credentials": {"scheme": "basic", "username": "u", "password": "p"}});
        assert_eq!(
            read(&basic),
            Ok(Credentials::Given(Credential::Basic {
                username: "u".to_owned(),
                password: "p".to_owned(),
            }))
        );
    }

    #[test]
    fn what_is_wrong_with_them_is_named() {
        for (credentials, field) in [
            (json!("token"), "credentials"),
            (json!({}), "credentials.scheme"),
            (json!({"scheme": "digest"}), "credentials.scheme"),
            (json!({"scheme": "bearer"}), "credentials.token"),
            (json!({"scheme": "bearer", "token": 1}), "credentials.token"),
            (
                json!({"scheme": "bearer", "token": "a\r\nb"}),
                "credentials.token",
            ),
            (
                json!({"scheme": "api_key", "value": "v"}),
                "credentials.header",
            ),
            (
                json!({"scheme": "api_key", "header": "Host", "value": "v"}),
                "credentials.header",
            ),
            (
                json!({"scheme": "api_key", "header": "X"}),
                "credentials.value",
            ),
            (json!({"scheme": "basic"}), "credentials.username"),
        ] {
            let fault = read(&json!({"credentials": credentials})).unwrap_err();
            assert_eq!(fault.field, field, "{credentials}");
        }
    }
}
