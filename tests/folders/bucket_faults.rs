//! Faults between a node and its bucket: the node survives each one, reports it in words, and recovers when it is over.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::*;
use buckets::{Class, Fault, FaultProxy, Kind, SECRET_KEY, Server};
use futures::{
    future::join_all,
    stream::{self, StreamExt},
};
use peerfold::{
    bucket::{BucketKeys, BucketOptions, Trouble},
    folder::{FolderError, SharedFolder},
    weights::Weights,
};
use samples::{LONG_PATIENCE, PATIENCE, eventually};
use std::{
    fs,
    time::{Duration, Instant},
};

/// A server, a proxy before it, and the homes of nodes.
struct Ward {
    proxy: FaultProxy,
    server: Server,
    homes: Homes,
}

impl Ward {
    fn new() -> Self {
        let server = Server::start();
        Self { proxy: FaultProxy::start(server.address()), server, homes: Homes::new() }
    }

    /// One node behind the proxy and one that reaches the server.
    async fn two(&self) -> (peerfold::folder::CachedFolder, peerfold::folder::CachedFolder) {
        (self.homes.open(1, self.proxy.endpoint()).await, self.homes.open(2, self.server.endpoint()).await)
    }
}

async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

/// What one node puts reaches the other and the other way round, through the fault and after it.
async fn survives(fault: Fault, class: Class, words: &str) {
    let ward = Ward::new();
    let (behind, other) = ward.two().await;
    ward.proxy.inject(fault);
    let (own, others) = (put(&behind, "update/1", &value(1), 1).await, put(&other, "update/1", &value(2), 1).await);
    fails_with(&behind, words).await;
    // It goes on.
    let next = put(&behind, "update/2", &value(3), 2).await;
    if class != Class::Put {
        arrives(&other, &own, &value(1)).await;
    }
    ward.proxy.clear();
    arrives(&other, &next, &value(3)).await;
    arrives(&behind, &others, &value(2)).await;
    routes(&behind, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_waited_for() {
    in_time(async {
        for class in [Class::List, Class::Get, Class::Put] {
            tokio::join!(
                survives(Fault::status(503, "SlowDown").on(class), class, "busy"),
                survives(Fault::status(500, "InternalError").on(class), class, "busy"),
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_refusals_are_not_worth_a_word() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let mut said = behind.routes().unwrap();
        said.mark_unchanged();
        for (status, code) in [(503, "SlowDown"), (500, "InternalError")] {
            for class in [Class::List, Class::Get, Class::Put] {
                ward.proxy.inject(Fault::status(status, code).on(class).times(2));
            }
            let (own, others) = (put(&behind, code, &value(1), 1).await, put(&other, code, &value(2), 1).await);
            arrives(&other, &own, &value(1)).await;
            arrives(&behind, &others, &value(2)).await;
        }
        ward.proxy.until_hit(12).await;
        assert!(!said.has_changed().unwrap(), "{:?}", said.borrow());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_is_given_up() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let others = put(&other, "update/1", &value(2), 1).await;
        ward.proxy.inject(Fault::new(Kind::Hang));
        ward.proxy.until_hit(1).await;
        let own = put(&behind, "update/1", &value(1), 1).await;
        // A listing waits once for a look, and not again while the same look goes on.
        behind.list("").await.unwrap();
        let asked = Instant::now();
        for _ in 0..10 {
            behind.list("").await.unwrap();
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        fails_with(&behind, "no answer in 30 s").await;
        ward.proxy.clear();
        arrives(&other, &own, &value(1)).await;
        arrives(&behind, &others, &value(2)).await;
        routes(&behind, true).await;
    })
    .await;
}

/// Of a read and of a write too, in the middle of an epoch's.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_or_a_write_that_nobody_answers_is_given_up() {
    in_time(async {
        // A larger one has more time.
        let read = survives(Fault::new(Kind::Hang).on(Class::Get), Class::Get, "no answer in 3");
        let written = survives(Fault::new(Kind::Hang).on(Class::Put), Class::Put, "no answer in 3");
        tokio::join!(read, written);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_where_an_entry_belongs_is_written_over() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let slot = ward.server.object_path(&format!("{}/entries", author_dir(1)));
        ward.proxy.inject(Fault::new(Kind::Hang).on(Class::Put).key(".entry"));
        let entry = put(&behind, "update/1", &value(1), 1).await;
        ward.proxy.until_hit(1).await;
        // Somebody is there before it, as soon as the name is known.
        let name = format!("{:020}.update.1.{:.8}.entry", entry.sequence, entry.hash().to_string());
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join(name), b"something else").unwrap();
        ward.proxy.clear();
        arrives(&other, &entry, &value(1)).await;
    })
    .await;
}

/// Of two megabytes, so that there is a middle.
fn large(number: u64) -> Weights {
    Weights::new(vec![tensor("w", number, 2_000_000)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_fetched_to_its_end() {
    in_time(async {
        for kind in [Kind::ResetInBody { after: 100_000 }, Kind::Truncate { after: 100_000 }] {
            let ward = Ward::new();
            let (behind, other) = ward.two().await;
            // Once: the rest comes by another request.
            ward.proxy.inject(Fault::new(kind.clone()).on(Class::Get).key(".pack").times(1));
            let entry = put(&other, "update/1", &large(1), 1).await;
            samples::learn(&behind, &entry).await;
            assert_eq!(samples::fetch(&behind, &entry).await.unwrap(), large(1));
            assert_eq!(ward.proxy.hits(), 1);
            // Always: it is an error, which is over when the fault is.
            ward.proxy.inject(Fault::new(kind).on(Class::Get).key(".pack"));
            let entry = put(&other, "update/2", &large(2), 2).await;
            samples::learn(&behind, &entry).await;
            let Err(FolderError::Unreachable { reason, .. }) = behind.get(&entry).await else { panic!("it is there") };
            assert!(reason.contains("doesn't answer"), "{reason}");
            ward.proxy.clear();
            assert_eq!(samples::fetch(&behind, &entry).await.unwrap(), large(2));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_off_is_asked_for_again() {
    in_time(async {
        for kind in [Kind::ResetInBody { after: 300 }, Kind::Truncate { after: 300 }] {
            let ward = Ward::new();
            let (behind, other) = ward.two().await;
            let mut said = behind.routes().unwrap();
            said.mark_unchanged();
            let first = put(&other, "update/1", &value(1), 1).await;
            arrives(&behind, &first, &value(1)).await;
            ward.proxy.inject(Fault::new(kind.clone()).on(Class::List).times(2));
            ward.proxy.until_hit(2).await;
            let second = put(&other, "update/2", &value(2), 2).await;
            arrives(&behind, &second, &value(2)).await;
            assert!(!said.has_changed().unwrap(), "{:?}", said.borrow());
            ward.proxy.inject(Fault::new(kind).on(Class::List));
            fails_with(&behind, "doesn't answer").await;
            ward.proxy.clear();
            routes(&behind, true).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_cut_or_whose_answer_is_lost_is_made_once_more() {
    in_time(async {
        for kind in [Kind::CutRequest, Kind::LoseAnswer, Kind::HangUp] {
            for object in [".pack", ".entry"] {
                let ward = Ward::new();
                let (behind, other) = ward.two().await;
                ward.proxy.inject(Fault::new(kind.clone()).on(Class::Put).key(object).times(2));
                let entry = put(&behind, "update/1", &value(1), 1).await;
                // Once at least: a listing may show by then that it is there.
                ward.proxy.until_hit(1).await;
                arrives(&other, &entry, &value(1)).await;
                behind.hand_over(SOON).await;
                let seen = ward.server.requests();
                let written = |end: &str| {
                    seen.iter().filter(|seen| seen.class == Class::Put && seen.key().ends_with(end)).count()
                };
                // What the store has written already is not taken for somebody else's and written over: conditional
                // writes are refused, and the object is compared.
                let good = seen.iter().filter(|seen| seen.class == Class::Put && seen.status == 200);
                assert_eq!(good.filter(|seen| seen.key().ends_with(".entry")).count(), 1, "{kind:?} {object}");
                assert!(written(".pack") <= 3 && written(".entry") <= 3, "{kind:?} {object}: {seen:#?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_on_the_way_is_fetched_anew() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        // A chunk, the signed entry, what follows it.
        for (number, object, from_end) in [(1, ".pack", 1000), (2, ".entry", 0), (3, ".entry", 2)] {
            let entry = {
                let away = Fault::new(Kind::HideFromListing { containing: "ward".to_owned() });
                ward.proxy.inject(away);
                let entry = put(&other, &format!("update/{number}"), &value(number), number).await;
                other.hand_over(SOON).await;
                entry
            };
            let key = ward.server.keys().into_iter().find(|key| {
                if object == ".pack" { key.ends_with(object) } else { key.contains(&format!(".update.{number}.")) }
            });
            let length = fs::metadata(ward.server.object_path(&key.unwrap())).unwrap().len();
            let offset = if from_end == 0 { 60 } else { length - from_end };
            let before = ward.proxy.hits();
            ward.proxy.clear();
            ward.proxy.inject(Fault::new(Kind::Flip { offset }).on(Class::Get).key(object).times(1));
            samples::learn(&behind, &entry).await;
            // At the first call.
            assert_eq!(samples::fetch(&behind, &entry).await.unwrap(), value(number), "{number}");
            assert!(ward.proxy.hits() > before);
        }
        // Always wrong: an error that names the object, until the way is mended.
        ward.proxy.inject(Fault::new(Kind::Flip { offset: 1000 }).on(Class::Get).key(".pack"));
        let entry = put(&other, "update/4", &value(4), 4).await;
        samples::learn(&behind, &entry).await;
        let Err(FolderError::Damaged { what, .. }) = behind.get(&entry).await else { panic!("it isn't damaged") };
        assert!(what.contains(&format!("{}/packs/", author_dir(2))), "{what}");
        ward.proxy.clear();
        assert_eq!(samples::fetch(&behind, &entry).await.unwrap(), value(4));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_look_failed_is_not_lost() {
    in_time(async {
        let ward = Ward::new();
        let other = ward.homes.open(2, ward.server.endpoint()).await;
        let mut entries = Vec::new();
        for number in 0..12 {
            entries.push(put(&other, &format!("artifact-{number}"), &value(number), 0).await);
        }
        other.hand_over(SOON).await;
        // The last one of them can't be read; the first ones have been by then.
        ward.proxy.inject(Fault::status(503, "SlowDown").on(Class::Get).key(".artifact-0."));
        let behind = ward.homes.open(1, ward.proxy.endpoint()).await;
        fails_with(&behind, "busy").await;
        for entry in &entries[1..] {
            samples::learn(&behind, entry).await;
        }
        ward.proxy.clear();
        samples::learn(&behind, &entries[0]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_said_and_not_the_end() {
    in_time(async {
        let ward = Ward::new();
        ward.proxy.inject(Fault::status(403, "RequestTimeTooSkewed"));
        // Not at the start either.
        let (behind, other) = ward.two().await;
        fails_with(&behind, "clock").await;
        let entry = put(&behind, "update/1", &value(1), 1).await;
        ward.proxy.clear();
        arrives(&other, &entry, &value(1)).await;
        routes(&behind, true).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_listed_late_is_found_late() {
    in_time(async {
        let ward = Ward::new();
        let behind = ward.homes.open(1, ward.proxy.endpoint()).await;
        ward.proxy.inject(Fault::new(Kind::HideFromListing { containing: author_dir(1) }));
        let own = put(&behind, "update/1", &value(1), 1).await;
        behind.hand_over(SOON).await;
        let hits = ward.proxy.hits();
        ward.proxy.until_hit(hits + 20).await;
        // Who wrote it doesn't write it again at once, and doesn't take it for deleted.
        let puts = || ward.server.requests().iter().filter(|seen| seen.class == Class::Put).count();
        assert_eq!(puts(), 2);
        ward.proxy.clear();
        let other = ward.homes.open(2, ward.server.endpoint()).await;
        arrives(&other, &own, &value(1)).await;
        // And readers find it as soon as it is listed.
        ward.proxy.inject(Fault::new(Kind::HideFromListing { containing: author_dir(2) }));
        let hits = ward.proxy.hits();
        let others = put(&other, "update/1", &value(2), 1).await;
        other.hand_over(SOON).await;
        ward.proxy.until_hit(hits + 3).await;
        assert!(!behind.list("").await.unwrap().contains(&others));
        ward.proxy.clear();
        arrives(&behind, &others, &value(2)).await;
        assert_eq!(puts(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_deletes_one_by_one_only_is_kept_small() {
    in_time(async {
        for (status, code) in [(501, "NotImplemented"), (500, "InternalError")] {
            let ward = Ward::new();
            let no_grace = options_with(ward.proxy.endpoint(), |settings| settings.grace = Duration::ZERO);
            let node = ward.homes.try_open(1, no_grace, None).await.unwrap();
            ward.proxy.inject(Fault::status(status, code).on(Class::BulkDelete));
            let mut bulk = 0;
            for round in 0..2 {
                for number in 0..12 {
                    let epoch = round * 12 + number;
                    put(&node, &format!("update/{epoch}"), &value(epoch), epoch).await;
                    node.hand_over(SOON).await;
                }
                eventually(async || {
                    node.list("").await.unwrap();
                    ward.server.keys().len() < 16 + 4
                })
                .await;
                let asked = ward.proxy.requests().iter().filter(|seen| seen.class == Class::BulkDelete).count();
                assert!(asked > 0);
                // A store that can't do it at all is asked once, not each time.
                assert!(round == 0 || status != 501 || asked == bulk, "{asked} after {bulk}");
                bulk = asked;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditional_writes_will_do() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        ward.proxy.inject(Fault::status(501, "NotImplemented").on(Class::Put).conditional());
        for number in 1..4 {
            let entry = put(&behind, &format!("update/{number}"), &value(number), number).await;
            arrives(&other, &entry, &value(number)).await;
        }
        routes(&behind, true).await;
        // It is tried with the first entry, as often as the library tries, and no more.
        let refused = ward.proxy.requests().iter().filter(|seen| seen.status == 501).count();
        assert!((1..=5).contains(&refused), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_catches_up_when_it_is_back() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let before = put(&behind, "update/1", &value(1), 1).await;
        arrives(&other, &before, &value(1)).await;
        ward.server.stop();
        fails_with(&other, "doesn't answer").await;
        let entries = [put(&behind, "update/2", &value(2), 2).await, put(&other, "update/2", &value(3), 2).await];
        // What is there already can be read.
        assert_eq!(samples::fetch(&other, &before).await.unwrap(), value(1));
        // A node that begins meanwhile is not turned away.
        let third = ward.homes.open(3, ward.server.endpoint()).await;
        ward.server.resume();
        for node in [&behind, &other, &third] {
            arrives(node, &entries[0], &value(2)).await;
            arrives(node, &entries[1], &value(3)).await;
            routes(node, true).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_emptied_is_filled_again() {
    in_time(async {
        let ward = Ward::new();
        let (node, other) = ward.two().await;
        let entries = [put(&node, "update/1", &value(1), 1).await, put(&other, "update/1", &value(2), 1).await];
        for folder in [&node, &other] {
            arrives(folder, &entries[0], &value(1)).await;
            arrives(folder, &entries[1], &value(2)).await;
        }
        let bucket = ward.server.object_path("");
        fs::remove_dir_all(&bucket).unwrap();
        for folder in [&node, &other] {
            fails_with(folder, "no such bucket").await;
        }
        // It is said at once, and what was there is there.
        let key = peerfold::weights::Key::new(node.author(), "update/2").unwrap();
        let refused = node.put(&key, &value(3), samples::epoch(2)).await;
        assert!(
            matches!(&refused, Err(FolderError::Bucket(error)) if error.trouble == Trouble::NoBucket),
            "{refused:?}"
        );
        assert_eq!(samples::fetch(&other, &entries[0]).await.unwrap(), value(1));
        fs::create_dir(&bucket).unwrap();
        routes(&node, true).await;
        let next = put(&node, "update/2", &value(3), 2).await;
        let third = ward.homes.open(3, ward.server.endpoint()).await;
        for (entry, number) in [(&entries[0], 1), (&entries[1], 2), (&next, 3)] {
            arrives(&third, entry, &value(number)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_final_is_said_at_once() {
    in_time(async {
        let ward = Ward::new();
        let refused = async |bucket: BucketOptions, trouble: Trouble, words: &[&str]| {
            let began = Instant::now();
            let opened = ward.homes.try_open(1, bucket, None).await;
            let Err(FolderError::Bucket(error)) = opened else { panic!("it opens, or {:?}", opened.err()) };
            assert_eq!(error.trouble, trouble, "{error}");
            words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
            assert!(began.elapsed() < SOON);
        };
        let keys = |id: &str, secret: &str| BucketOptions {
            keys: Some(BucketKeys::new(id, secret)),
            ..options(ward.proxy.endpoint())
        };
        refused(keys(buckets::ACCESS_KEY, "wrong"), Trouble::WrongSecret, &["AWS_SECRET_ACCESS_KEY"]).await;
        refused(keys("SOMEBODY", SECRET_KEY), Trouble::UnknownKey, &["AWS_ACCESS_KEY_ID"]).await;
        for (class, right) in [(Class::List, "s3:ListBucket"), (Class::Get, "s3:GetObject")] {
            if class == Class::Get {
                let other = ward.homes.open(2, ward.server.endpoint()).await;
                put(&other, "update/1", &value(1), 1).await;
                other.hand_over(SOON).await;
            }
            ward.proxy.inject(Fault::status(403, "AccessDenied").on(class));
            refused(options(ward.proxy.endpoint()), Trouble::NoPermission, &[right, "policy"]).await;
            ward.proxy.clear();
        }
        fs::remove_dir_all(ward.server.object_path("")).unwrap();
        refused(options(ward.proxy.endpoint()), Trouble::NoBucket, &["no such bucket", "create it"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_away_is_said_and_can_be_given_back() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        ward.proxy.inject(Fault::status(403, "AccessDenied").on(Class::Put));
        let entry = put(&behind, "update/1", &value(1), 1).await;
        fails_with(&behind, "s3:PutObject").await;
        let key = peerfold::weights::Key::new(behind.author(), "update/2").unwrap();
        let refused = behind.put(&key, &value(2), samples::epoch(2)).await;
        assert!(matches!(&refused, Err(FolderError::Bucket(error)) if error.trouble == Trouble::NoPermission));
        ward.proxy.clear();
        arrives(&other, &entry, &value(1)).await;
        routes(&behind, true).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_is_kept_from_readers_keeps_nothing_else() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let first = put(&other, "first", &value(1), 0).await;
        arrives(&behind, &first, &value(1)).await;
        // As one that was written with a key of somebody's own, or that lies in an archive.
        ward.proxy.inject(Fault::status(403, "InvalidObjectState").on(Class::Get).key(".second."));
        let second = put(&other, "second", &value(2), 0).await;
        ward.proxy.until_hit(1).await;
        let third = put(&other, "third", &value(3), 0).await;
        arrives(&behind, &third, &value(3)).await;
        assert!(!behind.list("").await.unwrap().contains(&second));
        let hits = ward.proxy.hits();
        let own = put(&behind, "update/1", &value(4), 1).await;
        arrives(&other, &own, &value(4)).await;
        // And it isn't asked for all the time.
        assert_eq!(ward.proxy.hits(), hits);
        assert!(behind.routes().unwrap().borrow().bucket);
    })
    .await;
}

const LOGIN: &str = "<!DOCTYPE html><html><head><title>Guest WiFi</title></head><body><br>Log in</body></html>";
const XHTML: &str = "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><body/></html>";

/// What answers in a store's place. A page of a server for files has a tag, too.
fn pages() -> Vec<Fault> {
    let listing = |inside: &str| format!("<ListBucketResult><Name>{}</Name>{inside}", buckets::BUCKET);
    let mut pages = vec![
        Fault::page(200, "text/html", LOGIN),
        Fault::page(200, "text/html; charset=utf-8", LOGIN).header("etag", "W/\"5f-18c\""),
        Fault::page(200, "application/xhtml+xml", XHTML),
        Fault::page(200, "application/xml", XHTML),
        Fault::page(200, "application/json", "{\"error\":\"login\"}"),
        Fault::page(200, "application/json", "{\"error\":\"login\"}").header("etag", "\"1\""),
        Fault::page(200, "text/html", ""),
        Fault::page(200, "text/html", [0x1f, 0x8b, 8, 0, 1, 2]).header("content-encoding", "gzip"),
        Fault::page(200, "application/xml", listing("")),
        Fault::page(200, "application/xml", "<ListBucketResult><Name>another</Name></ListBucketResult>"),
        Fault::page(200, "application/xml", listing("<Prefix>another/</Prefix></ListBucketResult>")),
        Fault::page(200, "application/xml", listing("<IsTruncated>true</IsTruncated></ListBucketResult>")),
        Fault::page(302, "text/html", LOGIN).header("location", "http://127.0.0.1:9/login"),
    ];
    pages.extend(
        [204, 206, 304, 400, 401, 403, 404, 407, 409, 412, 511].map(|status| Fault::page(status, "text/html", LOGIN)),
    );
    pages
}

/// Two nodes in the middle of their run, and a page on the way of one of them to the bucket: it says so, and nothing else
/// follows from it, neither for what is there nor for what is put meanwhile.
async fn is_no_answer(page: Fault, words: &str) {
    let case = format!("{page:?}");
    let ward = Ward::new();
    let (behind, other) = ward.two().await;
    let before = [put(&behind, "update/1", &value(1), 1).await, put(&other, "update/1", &value(2), 1).await];
    arrives(&other, &before[0], &value(1)).await;
    arrives(&behind, &before[1], &value(2)).await;
    behind.hand_over(SOON).await;
    ward.proxy.inject(page);
    let next = [put(&behind, "update/2", &value(3), 2).await, put(&other, "update/2", &value(4), 2).await];
    fails_with(&behind, words).await;
    ward.proxy.clear();
    routes(&behind, true).await;
    arrives(&other, &next[0], &value(3)).await;
    arrives(&behind, &next[1], &value(4)).await;
    behind.hand_over(SOON).await;
    // Nothing was mistaken for changed or lost: each pack and each entry was written once.
    let good = ward.server.requests().into_iter().filter(|seen| seen.class == Class::Put && seen.status == 200);
    let mut keys: Vec<String> = good.map(|seen| seen.key()).collect();
    keys.sort();
    let written = keys.len();
    keys.dedup();
    assert_eq!((written, keys.len()), (8, 8), "{case}: {keys:#?}");
}

/// A few cases at once: they wait most of the time, but each looks at its bucket while it does.
async fn none_is_an_answer(pages: Vec<Fault>) {
    let cases = stream::iter(pages).for_each_concurrent(8, |page| is_no_answer(page, "isn't S3"));
    tokio::time::timeout(LONG_PATIENCE, cases).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_the_bucket_s_place_is_no_answer() {
    none_is_an_answer(pages()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_answer_to_one_kind_of_request_is_none_either() {
    let tagged = |page: Fault| page.header("etag", "\"0\"");
    let objects = || {
        vec![
            Fault::page(200, "text/html", LOGIN),
            tagged(Fault::page(200, "text/html", LOGIN)),
            tagged(Fault::page(200, "application/json", "{}")),
            Fault::page(200, "application/octet-stream", ""),
            Fault::page(206, "text/html", LOGIN),
            Fault::page(404, "text/html", LOGIN),
            Fault::page(403, "text/html", LOGIN),
            Fault::page(302, "text/html", "").header("location", "http://127.0.0.1:9/login"),
        ]
    };
    let read = objects().into_iter().map(|page| page.on(Class::Get).key(".entry"));
    let shortened = [100, 0].map(|to| Fault::new(Kind::Shorten { to }).on(Class::Get).key(".entry"));
    let listed = [100, 300].map(|to| Fault::new(Kind::Shorten { to }).on(Class::List));
    let mut cases: Vec<Fault> = read.chain(shortened).chain(listed).collect();
    for object in [".pack", ".entry"] {
        let mut written = objects();
        written.extend([204, 409, 412].map(|status| Fault::page(status, "text/html", LOGIN)));
        cases.extend(written.into_iter().map(|page| page.on(Class::Put).key(object)));
    }
    // An empty answer with a tag is what a store gives to a write.
    none_is_an_answer(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_place_of_a_pack_is_not_its_author_s_fault() {
    in_time(async {
        let ward = Ward::new();
        let (behind, other) = ward.two().await;
        let entry = put(&other, "update/1", &value(1), 1).await;
        samples::learn(&behind, &entry).await;
        let range = "bytes 0-199999/200000";
        for page in [
            Fault::page(200, "text/html", LOGIN),
            Fault::page(206, "text/html", LOGIN),
            Fault::page(404, "text/html", LOGIN),
            Fault::page(206, "text/html", "").header("etag", "\"0\"").header("content-range", range),
            Fault::new(Kind::Shorten { to: 1000 }),
        ] {
            let case = format!("{page:?}");
            ward.proxy.inject(page.on(Class::Get).key(".pack"));
            match behind.get(&entry).await {
                Err(FolderError::Unreachable { reason, .. }) => {
                    assert!(reason.contains("isn't S3"), "{case}: {reason}")
                }
                other => panic!("{case}: {other:?}"),
            }
            ward.proxy.clear();
        }
        assert_eq!(samples::fetch(&behind, &entry).await.unwrap(), value(1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_answers_to_a_deletion_is_not_deleted() {
    in_time(async {
        for class in [Class::BulkDelete, Class::Delete] {
            let ward = Ward::new();
            let no_grace = options_with(ward.proxy.endpoint(), |settings| settings.grace = Duration::ZERO);
            let node = ward.homes.try_open(1, no_grace, None).await.unwrap();
            ward.proxy.inject(Fault::page(200, "text/html", LOGIN).on(class));
            if class == Class::Delete {
                ward.proxy.inject(Fault::status(501, "NotImplemented").on(Class::BulkDelete));
            } else {
                ward.proxy.inject(Fault::status(503, "SlowDown").on(Class::Delete));
            }
            let mut epoch = 0;
            eventually(async || {
                epoch += 1;
                put(&node, &format!("update/{epoch}"), &value(epoch), epoch).await;
                node.hand_over(SOON).await;
                ward.proxy.requests().iter().filter(|seen| seen.class == class).count() > 1
            })
            .await;
            // The rest of what it does goes on, and in the end everything is tidy.
            assert!(node.routes().unwrap().borrow().bucket);
            assert!(ward.server.requests().iter().all(|seen| seen.class != class));
            ward.proxy.clear();
            eventually(async || {
                epoch += 1;
                put(&node, &format!("update/{epoch}"), &value(epoch), epoch).await;
                node.hand_over(SOON).await;
                ward.server.keys().len() < 16 + 4
            })
            .await;
        }
    })
    .await;
}

/// Before a node begins: a bucket that hasn't shown all that is there is not empty.
#[tokio::test(flavor = "multi_thread")]
async fn who_looks_around_waits_until_all_that_is_there_was_seen() {
    in_time(async {
        let first = [
            Fault::page(200, "text/html", LOGIN),
            Fault::page(200, "text/html", LOGIN).on(Class::Get),
            Fault::status(503, "SlowDown"),
            Fault::status(503, "SlowDown").on(Class::Get).key(".artifact-0."),
            Fault::new(Kind::HangUp).on(Class::List),
        ];
        join_all(first.into_iter().map(async |fault| {
            let ward = Ward::new();
            let other = ward.homes.open(2, ward.server.endpoint()).await;
            let mut entries = Vec::new();
            for number in 0..12 {
                entries.push(put(&other, &format!("artifact-{number}"), &value(number), 0).await);
            }
            other.hand_over(SOON).await;
            ward.proxy.inject(fault.clone());
            let begins = ward.homes.open(1, ward.proxy.endpoint()).await;
            assert!(!begins.routes().unwrap().borrow().bucket, "{fault:?}");
            let looks = begins.look_around(PATIENCE);
            tokio::pin!(looks);
            // Two further looks fail while it waits.
            let hits = ward.proxy.hits();
            tokio::select! {
                _ = &mut looks => panic!("{fault:?}: it goes on without having seen what is there"),
                () = ward.proxy.until_hit(hits + 2) => {}
            }
            ward.proxy.clear();
            looks.await;
            let listed = begins.list("").await.unwrap();
            assert!(entries.iter().all(|entry| listed.contains(entry)), "{fault:?}: {} are listed", listed.len());
        }))
        .await;
    })
    .await;
}
