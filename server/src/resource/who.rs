//! Who calls, and whether they may.

use machinery::status::{Reason, Status};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pki::MASTERS;

/// Whoever calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl User {
    /// Of a connection that only this machine can make, and that is open to all of it.
    pub(super) fn of_this_machine() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()],
        }
    }

    /// Of a client's certificate: its common name, and its organizations as groups. Without one, anybody.
    pub(super) fn of_certificate(certificate: Option<&[u8]>) -> Self {
        let known = certificate.and_then(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let subject = certificate.subject();
            let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
            let groups = subject.iter_organization();
            let groups = groups.filter_map(|group| group.as_str().ok().map(str::to_owned));
            let mut groups: Vec<String> = groups.collect();
            groups.push("system:authenticated".to_owned());
            Some(Self { name, groups })
        });
        known.unwrap_or_else(|| Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        })
    }

    /// Whether they may do everything; nothing less is known yet.
    pub(super) fn may_all(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// What whoever may not is told.
    pub(super) fn refuse(&self, verb: &str, path: &str) -> Status {
        let message = format!(
            "forbidden: User {:?} cannot {verb} path {path:?}: only the holder of admin.kubeconfig may",
            self.name
        );
        Status::new(Reason::Forbidden, message)
    }
}
