//! Rules of services, endpoints and ways in and out.

use serde_json::json;

use super::*;

#[test]
fn a_service_has_ports_of_its_own() {
    refuses(
        "Service",
        &[("/spec/ports", json!([]))],
        &["spec.ports: Required value"],
    );
    refuses(
        "Service",
        &[(
            "/spec/ports",
            json!([
                { "port": 80, "protocol": "TCP", "nodePort": 30080 },
                { "name": "b", "port": 80, "protocol": "TCP", "targetPort": "x--y" },
                { "name": "b", "port": 0, "protocol": "TCP" },
            ]),
        )],
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].targetPort: Invalid value: \"x--y\": must not contain consecutive hyphens",
            "spec.ports[2].name: Duplicate value: \"b\"",
            "spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/type", json!("NodePort")),
            ("/spec/ports/0/nodePort", json!(80)),
        ],
        &[
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports \
           is 30000-32767",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/clusterIP", json!("None")),
            ("/spec/clusterIPs", json!(["None"])),
            ("/spec/ports", Value::Null),
        ],
        &[],
    );
}

#[test]
fn a_service_is_of_a_type_and_keeps_its_address() {
    refuses(
        "Service",
        &[
            ("/spec/type", json!("Best")),
            ("/spec/sessionAffinity", json!("Some")),
        ],
        &[
            "spec.sessionAffinity: Unsupported value: \"Some\": supported values: \"ClientIP\", \"None\"",
            "spec.type: Unsupported value: \"Best\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\"",
        ],
    );
    refuses(
        "Service",
        &[
            ("/spec/type", json!("ExternalName")),
            ("/spec/clusterIPs", Value::Null),
        ],
        &["spec.externalName: Required value"],
    );
    refuses(
        "Service",
        &[
            ("/spec/clusterIP", json!("x")),
            ("/spec/clusterIPs", json!(["x"])),
        ],
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    refuses_change(
        "Service",
        &[
            ("/spec/clusterIP", json!("10.0.0.2")),
            ("/spec/clusterIPs", json!(["10.0.0.2"])),
        ],
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
    refuses(
        "Service",
        &[("/spec/clusterIP", json!("10.0.0.2"))],
        &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`"],
    );
    refuses_change(
        "Service",
        &[
            ("/spec/clusterIP", Value::Null),
            ("/spec/clusterIPs", Value::Null),
        ],
        &[],
    );
    refuses(
        "Service",
        &[("/metadata/name", json!("1a"))],
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or \
           '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
           regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
}

#[test]
fn endpoints_have_addresses_of_their_type() {
    refuses(
        "EndpointSlice",
        &[("/endpoints/0/addresses", json!(["::1", "127.0.0.1"]))],
        &[
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[0].addresses[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)",
        ],
    );
    refuses_change(
        "EndpointSlice",
        &[("/addressType", json!("IPv6")), ("/endpoints", json!([]))],
        &["addressType: Invalid value: \"IPv6\": field is immutable"],
    );
    refuses(
        "Endpoints",
        &[("/subsets/0/addresses", Value::Null)],
        &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    );
}

#[test]
fn ways_in_and_out_lead_somewhere() {
    refuses(
        "Ingress",
        &[("/spec/rules", json!([]))],
        &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
    );
    refuses(
        "Ingress",
        &[
            ("/spec/rules/0/host", json!("10.0.0.1")),
            ("/spec/rules/0/http/paths/0/path", json!("a//b")),
            ("/spec/rules/0/http/paths/0/backend", json!({})),
            (
                "/spec/rules/0/http/paths/-",
                json!({ "backend": { "service": { "name": "s" } } }),
            ),
        ],
        &[
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
            "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
            "spec.rules[0].http.paths[0].backend: Required value: resource or service backend is required",
            "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
            "spec.rules[0].http.paths[1].backend: Required value: port name or number is required",
        ],
    );
    refuses_change(
        "IngressClass",
        &[("/spec/controller", json!("example.com/d"))],
        &["spec.controller: Invalid value: \"example.com/d\": field is immutable"],
    );
    refuses(
        "NetworkPolicy",
        &[
            ("/spec/ingress/0/ports/0/endPort", json!(70)),
            (
                "/spec/ingress/0/from",
                json!([{}, { "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }]),
            ),
            ("/spec/policyTypes", json!(["Both"])),
        ],
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
}
