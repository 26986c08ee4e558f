//! Nodes that ask their router to let others in, which does so, or refuses, or can't: with miniupnpd in a namespace.

use super::{
    nat::{Over, bootstrap, is_folded_with_a_peer, is_reached, node},
    network::status,
    process::{Running, Sandbox, until},
    sites::{Gateway, Internet, Nat, Site},
};
use peerfold::p2p::Way;

/// A node that asks its router.
fn asking(sandbox: &Sandbox, site: &Site) -> Running {
    node(sandbox, site, "a", "0/2", &["--upnp"])
}

/// Waits until a node that asks says why others aren't let in.
fn says_why(test: &str, nat: Nat, part: &str, gateway: impl FnOnce(&Site) -> Option<Gateway>) {
    let Some(mut internet) = Internet::with_gateways(test) else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let site = internet.site(nat, true);
    let _gateway = gateway(&site);
    let asking = asking(&sandbox, &site);
    until(|| asking.log().contains(part), || format!("no {part:?} in {}", asking.log()));
}

#[test]
fn a_site_that_nobody_can_punch_through_to_reaches_one_whose_router_opens_a_port() {
    let Some(mut internet) = Internet::with_gateways("a_site_whose_router_opens_a_port") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Cone, true), internet.site(Nat::Symmetric, true)];
    let _gateway = Gateway::at(&sites[0], true);
    let mut asking = asking(&sandbox, &sites[0]);
    let mapped = format!("/ip4/{}/", sites[0].address);
    until(
        || {
            let is_there = sandbox.path("a").join(peerfold::p2p::NETWORK_SOCKET).exists();
            let told = if is_there { status(&sandbox, "a").announced } else { Vec::new() };
            let is_mapped = |transport: &str| {
                told.iter().any(|address| {
                    address.starts_with(&mapped) && address.contains(transport) && !address.contains("circuit")
                })
            };
            is_mapped("/tcp/") && is_mapped("/quic-v1/")
        },
        || format!("{:?}, and {}", status(&sandbox, "a"), asking.log()),
    );
    let mut other = node(&sandbox, &sites[1], "b", "1/2", &[]);
    for node in [&mut other, &mut asking] {
        node.event(|event| is_reached(event, Way::Direct));
        node.event(is_folded_with_a_peer);
    }
}

#[test]
fn a_node_says_that_no_router_answers() {
    says_why("a_node_says_that_no_router_answers", Nat::Cone, "no router answers (UPnP)", |_| None);
}

#[test]
fn a_node_says_that_its_router_refuses() {
    let part = "hasn't opened a port";
    says_why("a_node_says_that_its_router_refuses", Nat::Cone, part, |site| Some(Gateway::at(site, false)));
}

/// Such a router knows that its own address isn't one of the internet, and gives none.
#[test]
fn a_node_says_that_its_router_has_no_address_of_the_internet() {
    let part = "or none that has an address of the internet";
    let test = "a_node_says_that_its_router_has_no_address_of_the_internet";
    says_why(test, Nat::Carrier, part, |site| Some(Gateway::at(site, true)));
}
