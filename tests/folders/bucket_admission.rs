//! A bucket into which somebody writes who isn't on the allow-list, or no longer.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::{Homes, arrives, author_dir, options, put, value};
use buckets::{BUCKET, Class, Server};
use peerfold::{
    entries::{MemberList, Membership},
    folder::{CachedFolder, CachedOptions, SharedFolder},
};
use samples::{author, eventually, peer};
use std::{path::PathBuf, sync::Arc};

async fn closed(dir: PathBuf, server: &Server, membership: &Arc<Membership>) -> CachedFolder {
    let bucket = Some((format!("s3://{BUCKET}/ward").parse().unwrap(), options(server.endpoint())));
    let options = CachedOptions { bucket, membership: membership.clone(), ..CachedOptions::new(dir) };
    tokio::task::spawn_blocking(move || CachedFolder::open(author(9), options)).await.unwrap().unwrap()
}

async fn authors(folder: &CachedFolder) -> Vec<peerfold::weights::Key> {
    folder.list("").await.unwrap().iter().map(|entry| entry.key.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_or_a_revoked_member_leaves_in_the_bucket_is_not_even_read() {
    let (server, homes) = (Server::start(), Homes::new());
    let (one, two) = (homes.open(1, server.endpoint()).await, homes.open(2, server.endpoint()).await);
    let first = put(&one, "update/1", &value(1), 1).await;
    let other = put(&two, "update/1", &value(2), 1).await;
    arrives(&two, &first, &value(1)).await;
    arrives(&one, &other, &value(2)).await;
    let membership = Arc::new(Membership::only([peer(1)]));
    let before = server.requests().len();
    let reader = closed(homes.dir(9), &server, &membership).await;
    arrives(&reader, &first, &value(1)).await;
    assert_eq!(authors(&reader).await, [first.key.clone()]);
    // The others go on reading what is new, but nothing of this was.
    let read = |dir: &str| {
        let requests = server.requests();
        requests[before..].iter().any(|seen| seen.class == Class::Get && seen.path.contains(dir))
    };
    assert!(read(&author_dir(1)) && !read(&author_dir(2)));

    // Exchanged while it runs.
    membership.replace(MemberList::from_iter([peer(2)]));
    eventually(async || authors(&reader).await == [other.key.clone()]).await;
    arrives(&reader, &other, &value(2)).await;
    put(&one, "update/2", &value(3), 2).await;
    let newest = put(&two, "update/2", &value(4), 2).await;
    arrives(&reader, &newest, &value(4)).await;
    assert_eq!(authors(&reader).await, [other.key.clone(), newest.key.clone()]);
    // Nor does it come back from the cache.
    drop(reader);
    let reader = closed(homes.dir(9), &server, &membership).await;
    assert_eq!(authors(&reader).await, [other.key.clone(), newest.key.clone()]);
    membership.replace(MemberList::from_iter([peer(1), peer(2)]));
    eventually(async || authors(&reader).await.len() == 4).await;
}
