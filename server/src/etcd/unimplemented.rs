//! The methods of etcd that are not built yet, so that a client learns which one it missed.

use super::error::{self, Status};

/// All of them, by the path that a request names. A method leaves this list when it gets its arm in the dispatch.
pub const NOT_BUILT: [&str; 18] = [
    "/etcdserverpb.Maintenance/Downgrade",
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleRevokePermission",
];

/// The services that there are, with or without all of their methods.
const SERVICES: [&str; 9] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
    "grpc.health.v1.Health",
];

/// Service and method of a path that is in the list.
pub(super) fn known(path: &str) -> Option<(&str, &str)> {
    if !NOT_BUILT.contains(&path) {
        return None;
    }
    path.strip_prefix('/')?.split_once('/')
}

/// The refusal of a path that has no arm in the dispatch.
pub(super) fn refusal(path: &str) -> Status {
    match known(path) {
        Some((_, method)) => error::not_built(method),
        None => error::unknown_method(path, &SERVICES),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_known_method_is_named_and_an_unknown_one_is_not_claimed() {
        let known = refusal("/etcdserverpb.Auth/UserAdd");
        assert_eq!(known.code(), Code::Unimplemented);
        assert_eq!(known.text(), "holdfast: UserAdd is not built yet");
        let unknown = refusal("/etcdserverpb.Lease/Nothing");
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert_eq!(
            unknown.text(),
            "unknown method Nothing for service etcdserverpb.Lease"
        );
        assert_eq!(
            refusal("/etcdserverpb.Nothing/Range").text(),
            "unknown service etcdserverpb.Nothing"
        );
        assert_eq!(
            refusal("/nothing").text(),
            "malformed method name: \"/nothing\""
        );
    }
}
