//! Rows of services, endpoints and networks.

use super::*;

#[test]
fn a_service() {
    let service = |spec: &str, status: &str| {
        let service = format!("spec: {{{spec}}}\nstatus: {{{status}}}");
        cells("", "Service", &service)
    };
    assert_eq!(
        service(
            "type: NodePort, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], selector: {app: web, a: b},
             ports: [{port: 80, protocol: TCP}, {port: 443, nodePort: 30443, protocol: TCP}]",
            ""
        ),
        json!(["web", "NodePort", "10.0.0.1", "<none>", "80/TCP,443:30443/TCP", "5m", "a=b,app=web"])
    );
    let balanced = "loadBalancer: {ingress: [{hostname: b.example.com}, {ip: 1.2.3.4}]}";
    assert_eq!(
        service("type: LoadBalancer, externalIPs: [5.6.7.8]", balanced)[3],
        "1.2.3.4,b.example.com,5.6.7.8"
    );
    assert_eq!(service("type: LoadBalancer", "")[3], "<pending>");
    assert_eq!(
        service("type: ExternalName, externalName: example.com", ""),
        json!([
            "web",
            "ExternalName",
            "<none>",
            "example.com",
            "<none>",
            "5m",
            "<none>"
        ])
    );
}

#[test]
fn endpoints_and_slices_show_three() {
    let subsets = "
        subsets:
        - addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]
          ports: [{name: a, port: 80}, {name: b, port: 443}]
        - {addresses: [{ip: 'fd00::1'}], ports: [{port: 80}]}";
    assert_eq!(
        cells("", "Endpoints", subsets),
        json!([
            "web",
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 2 more...",
            "5m"
        ])
    );
    assert_eq!(cells("", "Endpoints", "{}"), json!(["web", "<none>", "5m"]));
    let slice = "
        addressType: IPv4
        ports: [{port: 80}, {name: any}, {}]
        endpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3, 10.0.0.4]}]";
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", slice),
        json!([
            "web",
            "IPv4",
            "80,any,*",
            "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...",
            "5m"
        ])
    );
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", "addressType: IPv4"),
        json!(["web", "IPv4", "<unset>", "<unset>", "5m"])
    );
}

#[test]
fn an_ingress() {
    let ingress = "
        spec:
          ingressClassName: nginx
          tls: [{hosts: [a]}]
          rules: [{host: a}, {}, {host: b}, {host: c}, {host: d}]
        status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}";
    assert_eq!(
        cells("networking.k8s.io", "Ingress", ingress),
        json!([
            "web",
            "nginx",
            "a,b,c + 2 more...",
            "1.2.3.4",
            "80, 443",
            "5m"
        ])
    );
    assert_eq!(
        cells("networking.k8s.io", "Ingress", "spec: {rules: [{}]}"),
        json!(["web", "<none>", "*", "", "80", "5m"])
    );
    let class = "spec: {controller: example.com/c, parameters: {apiGroup: k.example.com, kind: P, name: p}}";
    assert_eq!(
        cells("networking.k8s.io", "IngressClass", class),
        json!(["web", "example.com/c", "P.k.example.com/p", "5m"])
    );
}

#[test]
fn policies_and_addresses_of_networks() {
    assert_eq!(
        cells(
            "networking.k8s.io",
            "NetworkPolicy",
            "spec: {podSelector: {matchLabels: {a: b}}}"
        ),
        json!(["web", "a=b", "5m"])
    );
    assert_eq!(
        cells(
            "networking.k8s.io",
            "NetworkPolicy",
            "spec: {podSelector: {}}"
        ),
        json!(["web", "<none>", "5m"])
    );
    let parent = "spec: {parentRef: {resource: services, namespace: default, name: kubernetes}}";
    assert_eq!(
        cells("networking.k8s.io", "IPAddress", parent),
        json!(["web", "services/default/kubernetes"])
    );
    assert_eq!(
        cells(
            "networking.k8s.io",
            "ServiceCIDR",
            "spec: {cidrs: [10.0.0.0/16, 'fd00::/64']}"
        ),
        json!(["web", "10.0.0.0/16,fd00::/64", "5m"])
    );
}
