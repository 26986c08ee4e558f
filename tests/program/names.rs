//! A bootstrap list of names: with dnsmasq in a namespace.

use super::{
    nat::{Over, bootstrap, is_folded_with_a_peer, node},
    process::{Sandbox, until},
    sites::{Asking, Internet, NameServer, Nat},
};
use std::fs;

/// The names are asked for again until there is an answer, so that a node may start before its name server.
#[test]
fn nodes_find_each_other_by_a_list_of_names() {
    let Some(mut internet) = Internet::with_names("nodes_find_each_other_by_a_list_of_names") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Tcp, &[]);
    let listed = fs::read_to_string(sandbox.path("peers.txt")).unwrap();
    let listed = listed.trim();
    let (_, id) = listed.rsplit_once("/p2p/").unwrap();
    let ip = listed.split('/').nth(2).unwrap();
    let [names, first, second] = std::array::from_fn(|_| internet.site(Nat::None, true));
    let _asking = Asking::at(&names, &[&first, &second]);

    fs::write(sandbox.path("peers.txt"), format!("/dnsaddr/wards.example/p2p/{id}\n")).unwrap();
    let mut by_list = node(&sandbox, &first, "a", "0/2", &[]);
    until(|| by_list.log().contains("can't be reached"), || format!("it says nothing of it: {}", by_list.log()));

    let text = format!("dnsaddr={listed}");
    let _server = NameServer::start(&names, ("_dnsaddr.wards.example", &text), ("one.wards.example", ip));
    fs::write(sandbox.path("peers.txt"), format!("/dns4/one.wards.example/tcp/4600/p2p/{id}\n")).unwrap();
    let mut by_name = node(&sandbox, &second, "b", "1/2", &[]);
    for node in [&mut by_name, &mut by_list] {
        node.event(is_folded_with_a_peer);
    }
}
