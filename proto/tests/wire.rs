//! The wire format is somebody else's: packages, names, numbers and types are compared with these tables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Per package: every method with its messages. `stream` marks the side that streams.
const SERVICES: &[(&str, &str)] = &[
    (
        "etcdserverpb",
        "KV.Range RangeRequest RangeResponse
         KV.RangeStream RangeRequest stream RangeStreamResponse
         KV.Put PutRequest PutResponse
         KV.DeleteRange DeleteRangeRequest DeleteRangeResponse
         KV.Txn TxnRequest TxnResponse
         KV.Compact CompactionRequest CompactionResponse
         Watch.Watch stream WatchRequest stream WatchResponse
         Lease.LeaseGrant LeaseGrantRequest LeaseGrantResponse
         Lease.LeaseRevoke LeaseRevokeRequest LeaseRevokeResponse
         Lease.LeaseKeepAlive stream LeaseKeepAliveRequest stream LeaseKeepAliveResponse
         Lease.LeaseTimeToLive LeaseTimeToLiveRequest LeaseTimeToLiveResponse
         Lease.LeaseLeases LeaseLeasesRequest LeaseLeasesResponse
         Cluster.MemberAdd MemberAddRequest MemberAddResponse
         Cluster.MemberRemove MemberRemoveRequest MemberRemoveResponse
         Cluster.MemberUpdate MemberUpdateRequest MemberUpdateResponse
         Cluster.MemberList MemberListRequest MemberListResponse
         Cluster.MemberPromote MemberPromoteRequest MemberPromoteResponse
         Maintenance.Alarm AlarmRequest AlarmResponse
         Maintenance.Status StatusRequest StatusResponse
         Maintenance.Defragment DefragmentRequest DefragmentResponse
         Maintenance.Hash HashRequest HashResponse
         Maintenance.HashKV HashKVRequest HashKVResponse
         Maintenance.Snapshot SnapshotRequest stream SnapshotResponse
         Maintenance.MoveLeader MoveLeaderRequest MoveLeaderResponse
         Maintenance.Downgrade DowngradeRequest DowngradeResponse
         Auth.AuthEnable AuthEnableRequest AuthEnableResponse
         Auth.AuthDisable AuthDisableRequest AuthDisableResponse
         Auth.AuthStatus AuthStatusRequest AuthStatusResponse
         Auth.Authenticate AuthenticateRequest AuthenticateResponse
         Auth.UserAdd AuthUserAddRequest AuthUserAddResponse
         Auth.UserGet AuthUserGetRequest AuthUserGetResponse
         Auth.UserList AuthUserListRequest AuthUserListResponse
         Auth.UserDelete AuthUserDeleteRequest AuthUserDeleteResponse
         Auth.UserChangePassword AuthUserChangePasswordRequest AuthUserChangePasswordResponse
         Auth.UserGrantRole AuthUserGrantRoleRequest AuthUserGrantRoleResponse
         Auth.UserRevokeRole AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse
         Auth.RoleAdd AuthRoleAddRequest AuthRoleAddResponse
         Auth.RoleGet AuthRoleGetRequest AuthRoleGetResponse
         Auth.RoleList AuthRoleListRequest AuthRoleListResponse
         Auth.RoleDelete AuthRoleDeleteRequest AuthRoleDeleteResponse
         Auth.RoleGrantPermission AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse
         Auth.RoleRevokePermission AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse",
    ),
    (
        "v3lockpb",
        "Lock.Lock LockRequest LockResponse
         Lock.Unlock UnlockRequest UnlockResponse",
    ),
    (
        "v3electionpb",
        "Election.Campaign CampaignRequest CampaignResponse
         Election.Proclaim ProclaimRequest ProclaimResponse
         Election.Leader LeaderRequest LeaderResponse
         Election.Observe LeaderRequest stream LeaderResponse
         Election.Resign ResignRequest ResignResponse",
    ),
    (
        "grpc.health.v1",
        "Health.Check HealthCheckRequest HealthCheckResponse
         Health.Watch HealthCheckRequest stream HealthCheckResponse",
    ),
];

/// Per package: every message with its fields as `name=number [repeated] type [oneof]`, and every enum with its
/// values. A type of the same package goes without the package.
const TYPES: &[(&str, &str)] = &[
    (
        "mvccpb",
        "KeyValue { key=1 bytes, create_revision=2 int64, mod_revision=3 int64, version=4 int64,
                    value=5 bytes, lease=6 int64 }
         Event.EventType { PUT=0, DELETE=1 }
         Event { type=1 Event.EventType, kv=2 KeyValue, prev_kv=3 KeyValue }",
    ),
    (
        "authpb",
        "UserAddOptions { no_password=1 bool }
         User { name=1 bytes, password=2 bytes, roles=3 repeated string, options=4 UserAddOptions }
         Permission.Type { READ=0, WRITE=1, READWRITE=2 }
         Permission { permType=1 Permission.Type, key=2 bytes, range_end=3 bytes }
         Role { name=1 bytes, keyPermission=2 repeated Permission }",
    ),
    (
        "etcdserverpb",
        "ResponseHeader { cluster_id=1 uint64, member_id=2 uint64, revision=3 int64, raft_term=4 uint64 }

         RangeRequest.SortOrder { NONE=0, ASCEND=1, DESCEND=2 }
         RangeRequest.SortTarget { KEY=0, VERSION=1, CREATE=2, MOD=3, VALUE=4 }
         RangeRequest { key=1 bytes, range_end=2 bytes, limit=3 int64, revision=4 int64,
                        sort_order=5 RangeRequest.SortOrder, sort_target=6 RangeRequest.SortTarget,
                        serializable=7 bool, keys_only=8 bool, count_only=9 bool,
                        min_mod_revision=10 int64, max_mod_revision=11 int64,
                        min_create_revision=12 int64, max_create_revision=13 int64 }
         RangeResponse { header=1 ResponseHeader, kvs=2 repeated mvccpb.KeyValue, more=3 bool, count=4 int64 }
         RangeStreamResponse { range_response=1 RangeResponse }
         PutRequest { key=1 bytes, value=2 bytes, lease=3 int64, prev_kv=4 bool, ignore_value=5 bool,
                      ignore_lease=6 bool }
         PutResponse { header=1 ResponseHeader, prev_kv=2 mvccpb.KeyValue }
         DeleteRangeRequest { key=1 bytes, range_end=2 bytes, prev_kv=3 bool }
         DeleteRangeResponse { header=1 ResponseHeader, deleted=2 int64, prev_kvs=3 repeated mvccpb.KeyValue }
         RequestOp { request_range=1 RangeRequest request, request_put=2 PutRequest request,
                     request_delete_range=3 DeleteRangeRequest request, request_txn=4 TxnRequest request }
         ResponseOp { response_range=1 RangeResponse response, response_put=2 PutResponse response,
                      response_delete_range=3 DeleteRangeResponse response,
                      response_txn=4 TxnResponse response }
         Compare.CompareResult { EQUAL=0, GREATER=1, LESS=2, NOT_EQUAL=3 }
         Compare.CompareTarget { VERSION=0, CREATE=1, MOD=2, VALUE=3, LEASE=4 }
         Compare { result=1 Compare.CompareResult, target=2 Compare.CompareTarget, key=3 bytes,
                   version=4 int64 target_union, create_revision=5 int64 target_union,
                   mod_revision=6 int64 target_union, value=7 bytes target_union,
                   lease=8 int64 target_union, range_end=64 bytes }
         TxnRequest { compare=1 repeated Compare, success=2 repeated RequestOp, failure=3 repeated RequestOp }
         TxnResponse { header=1 ResponseHeader, succeeded=2 bool, responses=3 repeated ResponseOp }
         CompactionRequest { revision=1 int64, physical=2 bool }
         CompactionResponse { header=1 ResponseHeader }

         WatchRequest { create_request=1 WatchCreateRequest request_union,
                        cancel_request=2 WatchCancelRequest request_union,
                        progress_request=3 WatchProgressRequest request_union }
         WatchCreateRequest.FilterType { NOPUT=0, NODELETE=1 }
         WatchCreateRequest { key=1 bytes, range_end=2 bytes, start_revision=3 int64, progress_notify=4 bool,
                              filters=5 repeated WatchCreateRequest.FilterType, prev_kv=6 bool,
                              watch_id=7 int64, fragment=8 bool }
         WatchCancelRequest { watch_id=1 int64 }
         WatchProgressRequest { }
         WatchResponse { header=1 ResponseHeader, watch_id=2 int64, created=3 bool, canceled=4 bool,
                         compact_revision=5 int64, cancel_reason=6 string, fragment=7 bool,
                         events=11 repeated mvccpb.Event }

         LeaseGrantRequest { TTL=1 int64, ID=2 int64 }
         LeaseGrantResponse { header=1 ResponseHeader, ID=2 int64, TTL=3 int64, error=4 string }
         LeaseRevokeRequest { ID=1 int64 }
         LeaseRevokeResponse { header=1 ResponseHeader }
         LeaseCheckpoint { ID=1 int64, remaining_TTL=2 int64 }
         LeaseCheckpointRequest { checkpoints=1 repeated LeaseCheckpoint }
         LeaseCheckpointResponse { header=1 ResponseHeader }
         LeaseKeepAliveRequest { ID=1 int64 }
         LeaseKeepAliveResponse { header=1 ResponseHeader, ID=2 int64, TTL=3 int64 }
         LeaseTimeToLiveRequest { ID=1 int64, keys=2 bool }
         LeaseTimeToLiveResponse { header=1 ResponseHeader, ID=2 int64, TTL=3 int64, grantedTTL=4 int64,
                                   keys=5 repeated bytes }
         LeaseLeasesRequest { }
         LeaseStatus { ID=1 int64 }
         LeaseLeasesResponse { header=1 ResponseHeader, leases=2 repeated LeaseStatus }

         Member { ID=1 uint64, name=2 string, peerURLs=3 repeated string, clientURLs=4 repeated string,
                  isLearner=5 bool }
         MemberAddRequest { peerURLs=1 repeated string, isLearner=2 bool }
         MemberAddResponse { header=1 ResponseHeader, member=2 Member, members=3 repeated Member }
         MemberRemoveRequest { ID=1 uint64 }
         MemberRemoveResponse { header=1 ResponseHeader, members=2 repeated Member }
         MemberUpdateRequest { ID=1 uint64, peerURLs=2 repeated string }
         MemberUpdateResponse { header=1 ResponseHeader, members=2 repeated Member }
         MemberListRequest { linearizable=1 bool }
         MemberListResponse { header=1 ResponseHeader, members=2 repeated Member }
         MemberPromoteRequest { ID=1 uint64 }
         MemberPromoteResponse { header=1 ResponseHeader, members=2 repeated Member }

         AlarmType { NONE=0, NOSPACE=1, CORRUPT=2 }
         AlarmRequest.AlarmAction { GET=0, ACTIVATE=1, DEACTIVATE=2 }
         AlarmRequest { action=1 AlarmRequest.AlarmAction, memberID=2 uint64, alarm=3 AlarmType }
         AlarmMember { memberID=1 uint64, alarm=2 AlarmType }
         AlarmResponse { header=1 ResponseHeader, alarms=2 repeated AlarmMember }
         StatusRequest { }
         StatusResponse { header=1 ResponseHeader, version=2 string, dbSize=3 int64, leader=4 uint64,
                          raftIndex=5 uint64, raftTerm=6 uint64, raftAppliedIndex=7 uint64,
                          errors=8 repeated string, dbSizeInUse=9 int64, isLearner=10 bool,
                          storageVersion=11 string, dbSizeQuota=12 int64, downgradeInfo=13 DowngradeInfo }
         DowngradeInfo { enabled=1 bool, targetVersion=2 string }
         DefragmentRequest { }
         DefragmentResponse { header=1 ResponseHeader }
         HashRequest { }
         HashResponse { header=1 ResponseHeader, hash=2 uint32 }
         HashKVRequest { revision=1 int64 }
         HashKVResponse { header=1 ResponseHeader, hash=2 uint32, compact_revision=3 int64,
                          hash_revision=4 int64 }
         SnapshotRequest { }
         SnapshotResponse { header=1 ResponseHeader, remaining_bytes=2 uint64, blob=3 bytes, version=4 string }
         MoveLeaderRequest { targetID=1 uint64 }
         MoveLeaderResponse { header=1 ResponseHeader }
         DowngradeRequest.DowngradeAction { VALIDATE=0, ENABLE=1, CANCEL=2 }
         DowngradeRequest { action=1 DowngradeRequest.DowngradeAction, version=2 string }
         DowngradeResponse { header=1 ResponseHeader, version=2 string }

         AuthEnableRequest { }
         AuthEnableResponse { header=1 ResponseHeader }
         AuthDisableRequest { }
         AuthDisableResponse { header=1 ResponseHeader }
         AuthStatusRequest { }
         AuthStatusResponse { header=1 ResponseHeader, enabled=2 bool, authRevision=3 uint64 }
         AuthenticateRequest { name=1 string, password=2 string }
         AuthenticateResponse { header=1 ResponseHeader, token=2 string }
         AuthUserAddRequest { name=1 string, password=2 string, options=3 authpb.UserAddOptions,
                              hashedPassword=4 string }
         AuthUserAddResponse { header=1 ResponseHeader }
         AuthUserGetRequest { name=1 string }
         AuthUserGetResponse { header=1 ResponseHeader, roles=2 repeated string }
         AuthUserListRequest { }
         AuthUserListResponse { header=1 ResponseHeader, users=2 repeated string }
         AuthUserDeleteRequest { name=1 string }
         AuthUserDeleteResponse { header=1 ResponseHeader }
         AuthUserChangePasswordRequest { name=1 string, password=2 string, hashedPassword=3 string }
         AuthUserChangePasswordResponse { header=1 ResponseHeader }
         AuthUserGrantRoleRequest { user=1 string, role=2 string }
         AuthUserGrantRoleResponse { header=1 ResponseHeader }
         AuthUserRevokeRoleRequest { name=1 string, role=2 string }
         AuthUserRevokeRoleResponse { header=1 ResponseHeader }
         AuthRoleAddRequest { name=1 string }
         AuthRoleAddResponse { header=1 ResponseHeader }
         AuthRoleGetRequest { role=1 string }
         AuthRoleGetResponse { header=1 ResponseHeader, perm=2 repeated authpb.Permission }
         AuthRoleListRequest { }
         AuthRoleListResponse { header=1 ResponseHeader, roles=2 repeated string }
         AuthRoleDeleteRequest { role=1 string }
         AuthRoleDeleteResponse { header=1 ResponseHeader }
         AuthRoleGrantPermissionRequest { name=1 string, perm=2 authpb.Permission }
         AuthRoleGrantPermissionResponse { header=1 ResponseHeader }
         AuthRoleRevokePermissionRequest { role=1 string, key=2 bytes, range_end=3 bytes }
         AuthRoleRevokePermissionResponse { header=1 ResponseHeader }",
    ),
    (
        "v3lockpb",
        "LockRequest { name=1 bytes, lease=2 int64 }
         LockResponse { header=1 etcdserverpb.ResponseHeader, key=2 bytes }
         UnlockRequest { key=1 bytes }
         UnlockResponse { header=1 etcdserverpb.ResponseHeader }",
    ),
    (
        "v3electionpb",
        "LeaderKey { name=1 bytes, key=2 bytes, rev=3 int64, lease=4 int64 }
         CampaignRequest { name=1 bytes, lease=2 int64, value=3 bytes }
         CampaignResponse { header=1 etcdserverpb.ResponseHeader, leader=2 LeaderKey }
         LeaderRequest { name=1 bytes }
         LeaderResponse { header=1 etcdserverpb.ResponseHeader, kv=2 mvccpb.KeyValue }
         ResignRequest { leader=1 LeaderKey }
         ResignResponse { header=1 etcdserverpb.ResponseHeader }
         ProclaimRequest { leader=1 LeaderKey, value=2 bytes }
         ProclaimResponse { header=1 etcdserverpb.ResponseHeader }",
    ),
    (
        "grpc.health.v1",
        "HealthCheckRequest { service=1 string }
         HealthCheckResponse.ServingStatus { UNKNOWN=0, SERVING=1, NOT_SERVING=2, SERVICE_UNKNOWN=3 }
         HealthCheckResponse { status=1 HealthCheckResponse.ServingStatus }",
    ),
];

/// The log's envelope as nodes in the field have written it. New fields may join; these never change.
const LOG_FORMAT: (&str, &str) = (
    "holdfast.command.v1",
    "Batch { format=1 uint32, feature_level=2 uint32, leader_time_ms=3 uint64, commands=4 repeated Command }
     Command { member=1 uint64, boot=2 uint64, sequence=3 uint64, user=4 string, auth_revision=5 uint64,
               trace_id=6 uint64, put=16 etcdserverpb.PutRequest op,
               delete_range=17 etcdserverpb.DeleteRangeRequest op, txn=18 etcdserverpb.TxnRequest op,
               compact=19 etcdserverpb.CompactionRequest op, alarm=20 etcdserverpb.AlarmRequest op }
     Membership.Voters { ids=1 repeated uint64 }
     Membership { voters=1 repeated Membership.Voters, members=2 repeated uint64 }",
);

/// What members of different versions say to each other. New fields may join; these never change.
const PEER_FORMAT: (&str, &str) = (
    "holdfast.peer.v1",
    "LogId { term=1 uint64, index=2 uint64 }
     Vote { term=1 uint64, voted_for=2 uint64, committed=3 bool }
     Entry { id=1 LogId, commands=2 bytes payload, membership=3 holdfast.command.v1.Membership payload }
     AppendRequest { vote=1 Vote, previous=2 LogId, entries=3 repeated Entry, committed=4 LogId }
     AppendReply.Matched { last=1 LogId }
     AppendReply { matched=1 AppendReply.Matched result, conflict=2 LogId result, higher=3 Vote result }
     VoteRequest { vote=1 Vote, last=2 LogId, is_transfer=3 bool, is_pre_vote=4 bool }
     VoteReply { vote=1 Vote, is_granted=2 bool, last=3 LogId }
     TransferLeaderRequest { vote=1 Vote, to=2 uint64, last=3 LogId }
     TransferLeaderReply { refusal=1 string }
     ReadIndexRequest { }
     ReadIndexReply { index=1 uint64 }
     HealthRequest { }
     HealthReply.Seen { id=1 uint64, is_connected=2 bool, connected_for_ms=3 uint64, matched_index=4 uint64 }
     HealthReply { last_index=1 uint64, peers=2 repeated HealthReply.Seen }
     ForwardRequest { id=1 uint64, commands=2 bytes, count=3 uint64 }
     ForwardReply { id=1 uint64, outcome=2 ForwardReply.Outcome }
     ForwardReply.Outcome { COMMITTED=0, NO_LEADER=1, TOO_MANY_REQUESTS=2, UNKNOWN=3 }
     SnapshotRequest.Begin { vote=1 Vote, manifest=2 bytes }
     SnapshotRequest.Chunk { file=1 uint32, offset=2 uint64, data=3 bytes }
     SnapshotRequest.EndFile { file=1 uint32, crc32c=2 uint32 }
     SnapshotRequest { begin=1 SnapshotRequest.Begin part, chunk=2 SnapshotRequest.Chunk part,
                       end_file=3 SnapshotRequest.EndFile part }
     SnapshotReply.Have { file=1 uint32, offset=2 uint64 }
     SnapshotReply { have=1 SnapshotReply.Have result, installed=2 Vote result }
     Remembered { boot=1 uint64, term=2 uint64, last=3 LogId }
     HelloRequest { remembered=1 Remembered }
     HelloReply { has=1 Remembered }
     MembersRequest { }
     MembersReply { cluster_id=1 uint64, members=2 repeated etcdserverpb.Member }",
);

#[test]
fn etcd_and_health_types_are_exactly_those_of_upstream() {
    let compiled = descriptors();
    for (package, table) in TYPES {
        assert_eq!(
            types_of(&compiled, package),
            parse(table),
            "package {package}"
        );
    }
}

#[test]
fn etcd_and_health_services_are_exactly_those_of_upstream() {
    let compiled = descriptors();
    for (package, table) in SERVICES {
        let expected: BTreeSet<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(
            methods_of(&compiled, package),
            expected,
            "package {package}"
        );
    }
}

#[test]
fn formats_of_log_and_peers_keep_every_field_they_ever_had() {
    for (package, table) in [LOG_FORMAT, PEER_FORMAT] {
        let compiled = types_of(&descriptors(), package);
        for (name, expected) in parse(table) {
            let fields = compiled
                .get(&name)
                .unwrap_or_else(|| panic!("{name} is gone"));
            let missing: Vec<_> = expected.difference(fields).collect();
            assert!(
                missing.is_empty(),
                "{name} lost {missing:?}, and now has {fields:?}"
            );
        }
    }
}

#[test]
fn no_package_goes_unchecked() {
    let expected: BTreeSet<&str> = TYPES
        .iter()
        .map(|(package, _)| *package)
        .chain([LOG_FORMAT.0, PEER_FORMAT.0])
        .collect();
    let compiled = descriptors();
    let packages: BTreeSet<&str> = compiled.file.iter().map(|file| file.package()).collect();
    assert_eq!(packages, expected);
}

#[test]
fn generated_services_answer_to_upstream_names() {
    use proto::etcd::{etcdserverpb, v3electionpb, v3lockpb};
    assert_eq!(etcdserverpb::kv_server::SERVICE_NAME, "etcdserverpb.KV");
    assert_eq!(
        etcdserverpb::watch_server::SERVICE_NAME,
        "etcdserverpb.Watch"
    );
    assert_eq!(
        etcdserverpb::lease_server::SERVICE_NAME,
        "etcdserverpb.Lease"
    );
    assert_eq!(
        etcdserverpb::cluster_server::SERVICE_NAME,
        "etcdserverpb.Cluster"
    );
    assert_eq!(
        etcdserverpb::maintenance_server::SERVICE_NAME,
        "etcdserverpb.Maintenance"
    );
    assert_eq!(etcdserverpb::auth_server::SERVICE_NAME, "etcdserverpb.Auth");
    assert_eq!(v3lockpb::lock_server::SERVICE_NAME, "v3lockpb.Lock");
    assert_eq!(
        v3electionpb::election_server::SERVICE_NAME,
        "v3electionpb.Election"
    );
    assert_eq!(
        proto::health::health_server::SERVICE_NAME,
        "grpc.health.v1.Health"
    );
}

/// The Rust names of some fields differ from upstream's; their numbers must not.
#[test]
fn renamed_rust_fields_keep_their_numbers() {
    let member = proto::etcd::etcdserverpb::Member {
        id: 1,
        name: "n".to_owned(),
        peer_urls: vec!["p".to_owned()],
        client_urls: vec!["c".to_owned()],
        is_learner: true,
    };
    assert_eq!(
        member.encode_to_vec(),
        b"\x08\x01\x12\x01n\x1a\x01p\x22\x01c\x28\x01"
    );
}

#[test]
fn decoded_bytes_fields_share_the_buffer_they_came_in() {
    let put = proto::etcd::etcdserverpb::PutRequest {
        key: Bytes::from_static(b"key"),
        value: Bytes::from(vec![7; 1024]),
        ..Default::default()
    };
    let buffer = Bytes::from(put.encode_to_vec());
    let decoded = proto::etcd::etcdserverpb::PutRequest::decode(buffer.clone()).unwrap();
    assert_eq!(decoded, put);
    assert!(buffer.as_ptr_range().contains(&decoded.value.as_ptr()));
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap()
}

/// A table of `Name { item, item }` as name -> items.
fn parse(table: &str) -> BTreeMap<String, BTreeSet<String>> {
    let types: Vec<_> = table
        .split('}')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .collect();
    let count = types.len();
    let parsed: BTreeMap<_, BTreeSet<_>> = types
        .into_iter()
        .map(|text| {
            let (name, items) = text.split_once('{').unwrap();
            let items = items
                .split(',')
                .map(|item| item.split_whitespace().collect::<Vec<_>>().join(" "));
            (
                name.trim().to_owned(),
                items.filter(|item| !item.is_empty()).collect(),
            )
        })
        .collect();
    assert_eq!(parsed.len(), count, "the table names a type twice");
    parsed
}

/// The compiled types of a package in the same form.
fn types_of(compiled: &FileDescriptorSet, package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut types = BTreeMap::new();
    for file in compiled
        .file
        .iter()
        .filter(|file| file.package() == package)
    {
        assert_eq!(file.syntax(), "proto3");
        for message in &file.message_type {
            add_message(&mut types, package, "", message);
        }
        for enumeration in &file.enum_type {
            add_enum(&mut types, "", enumeration);
        }
    }
    types
}

fn add_message(
    types: &mut BTreeMap<String, BTreeSet<String>>,
    package: &str,
    outer: &str,
    message: &DescriptorProto,
) {
    let name = format!("{outer}{}", message.name());
    let inner = format!("{name}.");
    for nested in &message.nested_type {
        add_message(types, package, &inner, nested);
    }
    for enumeration in &message.enum_type {
        add_enum(types, &inner, enumeration);
    }
    types.insert(
        name,
        message
            .field
            .iter()
            .map(|field| field_text(package, message, field))
            .collect(),
    );
}

fn add_enum(
    types: &mut BTreeMap<String, BTreeSet<String>>,
    outer: &str,
    enumeration: &EnumDescriptorProto,
) {
    let values = enumeration
        .value
        .iter()
        .map(|value| format!("{}={}", value.name(), value.number()));
    types.insert(format!("{outer}{}", enumeration.name()), values.collect());
}

fn field_text(package: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated {
        "repeated "
    } else {
        ""
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => local(package, field.type_name()).to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    };
    let oneof = match field.oneof_index {
        Some(index) => format!(
            " {}",
            message.oneof_decl[usize::try_from(index).unwrap()].name()
        ),
        None => String::new(),
    };
    format!(
        "{}={} {repeated}{kind}{oneof}",
        field.name(),
        field.number()
    )
}

fn methods_of(compiled: &FileDescriptorSet, package: &str) -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    for file in compiled
        .file
        .iter()
        .filter(|file| file.package() == package)
    {
        for service in &file.service {
            for method in &service.method {
                let side = |streams: bool, name| {
                    format!(
                        "{}{}",
                        if streams { "stream " } else { "" },
                        local(package, name)
                    )
                };
                methods.insert(format!(
                    "{}.{} {} {}",
                    service.name(),
                    method.name(),
                    side(method.client_streaming(), method.input_type()),
                    side(method.server_streaming(), method.output_type()),
                ));
            }
        }
    }
    methods
}

/// A fully qualified type name without the leading dot, and without the package if it is this one.
fn local<'a>(package: &str, name: &'a str) -> &'a str {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.strip_prefix(package)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(name)
}
