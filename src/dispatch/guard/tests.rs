use super::*;

fn guard(allow: &[&str]) -> TargetGuard {
    TargetGuard::new(allow.iter().map(|net| net.parse().unwrap()).collect())
}

fn refusal(url: &str) -> String {
    match guard(&[]).check_url(url) {
        Err(error) => error.to_string(),
        Ok(url) => format!("passed: {url}"),
    }
}

/// Hosts as they may be written in a URL, and the label that each must meet.
const BLOCKED: &[(&str, &str)] = &[
    ("127.0.0.1", "loopback address"),
    ("127.1", "loopback address"),
    ("2130706433", "loopback address"),
    ("0x7f000001", "loopback address"),
    ("0x7f.1", "loopback address"),
    ("0177.0.0.1", "loopback address"),
    ("127.0.0.1.", "loopback address"),
    ("%31%32%37.0.0.1", "loopback address"),
    ("127。0。0。1", "loopback address"),
    ("[::ffff:127.0.0.1]", "loopback address"),
    ("[::ffff:7f00:1]", "loopback address"),
    ("[64:ff9b::127.0.0.1]", "loopback address"),
    ("[2002:7f00:1::]", "loopback address"),
    ("[::ffff:0:7f00:1]", "loopback address"),
    ("[2001:0:1:2:3:4:80ff:fffe]", "loopback address"),
    ("[::1]", "IPv6 loopback address"),
    ("[0:0:0:0:0:0:0:1]", "IPv6 loopback address"),
    ("0", "unspecified address"),
    ("0.0.0.0", "unspecified address"),
    ("[::]", "unspecified address"),
    ("0.1.2.3", "this-network address (RFC-1122)"),
    ("10.0.0.1", "RFC-1918 private address"),
    ("012.0.0.1", "RFC-1918 private address"),
    ("172.16.0.1", "RFC-1918 private address"),
    ("172.31.255.255", "RFC-1918 private address"),
    ("192.168.1.1", "RFC-1918 private address"),
    ("[64:ff9b::10.1.2.3]", "RFC-1918 private address"),
    (
        "169.254.169.254",
        "link-local address (cloud metadata endpoint)",
    ),
    ("0xa9fea9fe", "link-local address (cloud metadata endpoint)"),
    (
        "[::ffff:169.254.169.254]",
        "link-local address (cloud metadata endpoint)",
    ),
    ("100.64.0.1", "carrier-grade NAT address (RFC-6598)"),
    ("100.127.255.255", "carrier-grade NAT address (RFC-6598)"),
    ("192.0.0.170", "IETF protocol assignment (RFC-6890)"),
    ("192.0.2.1", "TEST-NET-1 documentation range (RFC-5737)"),
    ("198.51.100.1", "TEST-NET-2 documentation range (RFC-5737)"),
    ("203.0.113.1", "TEST-NET-3 documentation range (RFC-5737)"),
    ("192.88.99.1", "6to4 relay address (RFC-7526)"),
    ("198.18.0.1", "benchmarking address (RFC-2544)"),
    ("198.19.255.255", "benchmarking address (RFC-2544)"),
    ("224.0.0.1", "IPv4 multicast address"),
    ("239.255.255.255", "IPv4 multicast address"),
    ("240.0.0.1", "reserved address (RFC-1112)"),
    ("255.255.255.255", "broadcast address"),
    ("[::127.0.0.1]", "IPv4-compatible IPv6 address (RFC-4291)"),
    ("[::8.8.8.8]", "IPv4-compatible IPv6 address (RFC-4291)"),
    (
        "[64:ff9b:1::8.8.8.8]",
        "IPv6 local translation prefix (RFC-8215)",
    ),
    ("[100::1]", "IPv6 discard prefix (RFC-6666)"),
    (
        "[2001:db8::1]",
        "IPv6 documentation address (RFC-3849 reserved)",
    ),
    (
        "[3fff:fff::1]",
        "IPv6 documentation address (RFC-9637 reserved)",
    ),
    ("[2001:2::1]", "IPv6 protocol assignment (RFC-2928)"),
    ("[5f00::1]", "IPv6 segment routing prefix (RFC-9602)"),
    ("[fc00::1]", "IPv6 ULA non-routable prefix (fc00::/8)"),
    ("[fd12:3456::1]", "IPv6 ULA address (RFC-4193 private)"),
    (
        "[fe80::1]",
        "IPv6 link-local address (cloud metadata analogue)",
    ),
    (
        "[febf::1]",
        "IPv6 link-local address (cloud metadata analogue)",
    ),
    ("[fec0::1]", "IPv6 site-local address (RFC-3879)"),
    ("[ff02::1]", "IPv6 multicast address"),
];

#[test]
fn every_spelling_of_a_blocked_address_is_refused_with_its_label() {
    for (host, label) in BLOCKED {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:8000/a2a");
            assert_eq!(
                refusal(&url),
                format!("url targets a blocked address: {label}"),
                "{url}"
            );
        }
    }
}

#[test]
fn public_addresses_and_names_pass() {
    for host in [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "[2606:4700::1111]",
        "[64:ff9b::8.8.8.8]",
        "[2002:808:808::]",
        "[2001:4860:4860::8888]",
        "[::ffff:8.8.8.8]",
        "agent.example",
        "localhost",
    ] {
        let url = format!("https://{host}/a2a?x=1");
        assert!(guard(&[]).check_url(&url).is_ok(), "{url}");
    }
}

#[test]
fn what_is_no_url_to_call_is_refused_with_the_texts_of_the_contract() {
    for (url, text) in [
        ("", "url is not valid: relative URL without a base"),
        ("agent:", "url scheme must be http or https, got \"agent\""),
        ("http://", "url is not valid: empty host"),
        (
            "http://a b/",
            "url is not valid: invalid international domain name",
        ),
        ("http://[::1", "url is not valid: invalid IPv6 address"),
        (
            "http://1.2.3.4.5/",
            "url is not valid: invalid IPv4 address",
        ),
        (
            "http://host:99999/",
            "url is not valid: invalid port number",
        ),
        (
            "ftp://host/",
            "url scheme must be http or https, got \"ftp\"",
        ),
        (
            "file:///etc/passwd",
            "url scheme must be http or https, got \"file\"",
        ),
        (
            "http://user@host/",
            "url is not valid: it must not contain credentials",
        ),
        (
            "http://:pw@host/",
            "url is not valid: it must not contain credentials",
        ),
    ] {
        assert_eq!(refusal(url), text, "{url}");
    }
}

#[test]
fn the_operator_opens_ranges_and_nothing_beside_them() {
    let loopback = guard(&["127.0.0.0/8", "::1/128", "10.1.0.0/16"]);
    for open in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.9.9.9]",
        "10.1.2.3",
        "[64:ff9b::10.1.2.3]",
    ] {
        assert!(
            loopback.check_url(&format!("http://{open}/")).is_ok(),
            "{open}"
        );
    }
    for closed in [
        "10.2.0.1",
        "169.254.169.254",
        "[fd00::1]",
        "[::127.0.0.1]",
        "0.0.0.0",
    ] {
        assert!(
            loopback.check_url(&format!("http://{closed}/")).is_err(),
            "{closed}"
        );
    }
}

#[tokio::test]
async fn a_name_is_judged_by_all_its_addresses() {
    let url = Url::parse("http://localhost:8000/").unwrap();
    let refused = guard(&[])
        .check_resolved(&url)
        .await
        .unwrap_err()
        .to_string();
    let start =
        "hostname \"localhost\" resolves to forbidden address: url targets a blocked address: ";
    assert!(
        refused.starts_with(start) && refused.ends_with("loopback address"),
        "{refused}"
    );
    assert_eq!(
        guard(&["127.0.0.0/8", "::1/128"])
            .check_resolved(&url)
            .await,
        Ok(())
    );

    let nowhere = Url::parse("http://nowhere.invalid/").unwrap();
    let unresolved = guard(&[])
        .check_resolved(&nowhere)
        .await
        .unwrap_err()
        .to_string();
    let start = "hostname \"nowhere.invalid\" cannot be resolved (DNS error): ";
    assert!(
        unresolved.len() > start.len() && unresolved.starts_with(start),
        "{unresolved}"
    );
}

#[tokio::test]
async fn at_connect_only_forbidden_addresses_are_left_out() {
    let open = guard(&["127.0.0.0/8"]);
    let found = open.dialable("localhost").await.unwrap();
    let found: Vec<_> = found.iter().map(|found| found.ip().to_string()).collect();
    assert!(
        !found.is_empty() && found.iter().all(|address| address.starts_with("127.")),
        "{found:?}"
    );
    let closed = guard(&[]).dialable("localhost").await;
    assert!(matches!(closed, Err(GuardError::ResolvesToBlocked { .. })));
}

#[tokio::test]
async fn those_who_ask_for_one_name_at_once_share_the_answer() {
    let guard = guard(&["127.0.0.0/8", "::1/128"]);
    let asked = (0..100).map(|_| guard.dialable("localhost"));
    for found in futures_util::future::join_all(asked).await {
        assert!(!found.unwrap().is_empty());
    }
    let unknown = guard.dialable("nowhere.invalid").await;
    assert!(matches!(unknown, Err(GuardError::Unresolvable { .. })));
}
