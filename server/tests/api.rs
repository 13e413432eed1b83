//! The resource API over HTTP: what is answered to good, bad and odd requests must be what kube-apiserver answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod node;

mod api {
    pub(crate) mod shared;
    pub(crate) mod wire;

    mod bodies;
    mod deletes;
    mod documents;
    mod errors;
    mod fuzz;
    mod manifests;
    mod mutate;
    mod negotiation;
    mod parts;
    mod protobuf;
    mod reads;
    mod round_trip;
    mod watches;
    mod writes;
}
