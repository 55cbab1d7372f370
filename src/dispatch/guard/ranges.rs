//! The special-purpose address ranges, with the labels of contract §9.1 where it has one.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What kind of address this is if it may not be called.
pub(super) const fn blocked_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        [0, 0, 0, 0] => "unspecified address",
        [0, ..] => "this-network address (RFC-1122)",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "RFC-1918 private address",
        [100, 64..=127, ..] => "carrier-grade NAT address (RFC-6598)",
        [127, ..] => "loopback address",
        [169, 254, ..] => "link-local address (cloud metadata endpoint)",
        [192, 0, 0, _] => "IETF protocol assignment (RFC-6890)",
        [192, 0, 2, _] => "TEST-NET-1 documentation range (RFC-5737)",
        [198, 51, 100, _] => "TEST-NET-2 documentation range (RFC-5737)",
        [203, 0, 113, _] => "TEST-NET-3 documentation range (RFC-5737)",
        [192, 88, 99, _] => "6to4 relay address (RFC-7526)",
        [198, 18..=19, ..] => "benchmarking address (RFC-2544)",
        [224..=239, ..] => "IPv4 multicast address",
        [255, 255, 255, 255] => "broadcast address",
        [240..=255, ..] => "reserved address (RFC-1112)",
        _ => return None,
    })
}

/// What kind of address this is if it may not be called, whatever IPv4 address may be inside it.
pub(super) const fn blocked_v6(address: Ipv6Addr) -> Option<&'static str> {
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "IPv6 loopback address",
        // No packet to a whole ::a.b.c.d is ever right (RFC 4291 §2.5.5.1); the rest of ::/8 is reserved but for the
        // translation prefixes, which `embedded_v4` looks into.
        [0, 0, 0, 0, 0, 0, _, _] => "IPv4-compatible IPv6 address (RFC-4291)",
        [0x64, 0xff9b, 1, ..] => "IPv6 local translation prefix (RFC-8215)",
        [0x100, 0, 0, 0, ..] => "IPv6 discard prefix (RFC-6666)",
        [0x2001, 0xdb8, ..] => "IPv6 documentation address (RFC-3849 reserved)",
        [0x3fff, 0..=0xfff, ..] => "IPv6 documentation address (RFC-9637 reserved)",
        // 2001::/23 but for Teredo, which `embedded_v4` looks into.
        [0x2001, 1..=0x1ff, ..] => "IPv6 protocol assignment (RFC-2928)",
        [0x5f00, ..] => "IPv6 segment routing prefix (RFC-9602)",
        [0xfc00..=0xfcff, ..] => "IPv6 ULA non-routable prefix (fc00::/8)",
        [0xfd00..=0xfdff, ..] => "IPv6 ULA address (RFC-4193 private)",
        [0xfe80..=0xfebf, ..] => "IPv6 link-local address (cloud metadata analogue)",
        [0xfec0..=0xfeff, ..] => "IPv6 site-local address (RFC-3879)",
        [0xff00..=0xffff, ..] => "IPv6 multicast address",
        _ => return None,
    })
}

/// The IPv4 address that a packet to `address` ends at: NAT64, 6to4, Teredo and the old stateless translation.
pub(super) fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, .., high, low] => Some(join(!high, !low)),
        _ => None,
    }
}
