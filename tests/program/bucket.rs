//! Nodes that meet in a bucket, on a real S3 server over HTTP with signed requests.

use super::{
    buckets::{ACCESS_KEY, BUCKET, Class, Fault, FaultProxy, REGION, SECRET_KEY, Server},
    process::{Ended, Running, Sandbox},
};
use peerfold::{node::Event, weights::Weights};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// As a user gives them: in the environment.
fn with_keys(mut command: Command, secret: &str) -> Command {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret).env("AWS_REGION", REGION);
    command
}

fn url() -> String {
    format!("s3://{BUCKET}/ward")
}

/// A node on the bucket of this server.
fn node(sandbox: &Sandbox, server: &Server, home: &str, args: &[&str]) -> Command {
    let mut command = with_keys(sandbox.node(home, args), SECRET_KEY);
    command.env("PEERFOLD_S3_ENDPOINT", server.endpoint()).env("PEERFOLD_S3_ALLOW_HTTP", "true");
    command.env("PEERFOLD_FOLDER", url()).env("PEERFOLD_S3_POLL_IDLE", "1");
    command
}

fn folder(sandbox: &Sandbox, server: &Server, args: &[&str]) -> Ended {
    let mut command = with_keys(sandbox.command(["folder"].iter().chain(args)), SECRET_KEY);
    command.env("PEERFOLD_S3_ENDPOINT", server.endpoint()).env("PEERFOLD_S3_ALLOW_HTTP", "true");
    command.env("PEERFOLD_FEDERATION", "test");
    Ended::of(command)
}

fn folded_with_peers(events: &[Event]) -> BTreeSet<String> {
    let folded = events.iter().filter_map(|event| match event {
        Event::Folded { updates, .. } => Some(updates),
        _ => None,
    });
    folded.flatten().filter(|update| !update.own).map(|update| update.author.clone()).collect()
}

#[test]
fn nodes_learn_together_through_a_bucket_alone_and_it_costs_little() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let common = |index: &'static str| {
        ["--epochs", "10", "--partition", index, "--skew", "0.9", "--sync", "--nodes", "3", "--s3-poll", "0.1"]
    };
    let nodes: Vec<Running> = ["0/3", "1/3", "2/3"]
        .iter()
        .map(|index| Running::start(node(&sandbox, &server, &index.replace('/', "-"), &common(index))))
        .collect();
    let mut writes = 0;
    for node in nodes {
        let ended = node.wait().success();
        let events = ended.events();
        assert_eq!(folded_with_peers(&events).len(), 2, "{events:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Routes { network: None, bucket: true, .. })));
        let costs = events.iter().filter_map(|event| match event {
            Event::EpochDone { bucket, .. } => Some(bucket.expect("there is a bucket")),
            _ => None,
        });
        let costs: Vec<_> = costs.collect();
        // A node that comes late, or was waited for in vain, goes on where the others are.
        let Some(Event::EpochDone { epoch: 10, .. }) =
            events.iter().rfind(|event| matches!(event, Event::EpochDone { .. }))
        else {
            panic!("{events:?}")
        };
        // Two objects an epoch, their deletion now and then, and what came before the first.
        let all: u64 = costs.iter().map(|cost| cost.writes + cost.deletes).sum();
        assert!(all <= 3 * costs.len() as u64 + 6, "{costs:?}");
        let Some(Event::Finished { bucket: Some(total), .. }) = events.last() else { panic!("{events:?}") };
        writes += total.writes;
    }
    // What the nodes say is what the server has seen.
    let seen = server.requests();
    assert_eq!(seen.iter().filter(|seen| seen.class == Class::Put).count() as u64, writes);
    // A person sees who published what.
    let keys = server.keys();
    assert!(keys.iter().all(|key| key.starts_with("ward/")), "{keys:?}");
    assert!(keys.iter().any(|key| key.contains("/entries/") && key.contains(".update.10.")), "{keys:?}");
    let rows: Value =
        serde_json::from_str(&folder(&sandbox, &server, &["ls", &url(), "--json"]).success().text()).unwrap();
    let rows = rows.as_array().unwrap();
    let last = rows.iter().filter(|row| row["name"] == "update/10").count();
    assert_eq!(last, 3, "{rows:?}");
    assert!(rows.iter().all(|row| row["age_seconds"].as_u64().is_some_and(|age| age < 600)), "{rows:?}");
    let table = folder(&sandbox, &server, &["ls", &url()]).success().text();
    assert!(table.contains("update/10") && table.contains("loss="), "{table}");
}

#[test]
fn a_bucket_that_is_away_for_a_while_costs_no_update() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let args = ["--epochs", "150", "--partition", "0/2", "--steps-per-epoch", "2"];
    let mut first = Running::start(node(&sandbox, &server, "a", &args));
    first.event(|event| matches!(event, Event::EpochDone { epoch: 3, .. }));
    server.stop();
    let down = first.event(|event| matches!(event, Event::Routes { bucket: false, .. }));
    let Event::Routes { reason: Some(reason), .. } = down else { panic!("no reason") };
    assert!(reason.contains("doesn't answer"), "{reason}");
    // It trains on.
    let at = first.event(|event| matches!(event, Event::EpochDone { .. }));
    let Event::EpochDone { epoch, .. } = at else { panic!("no epoch") };
    first.event(|event| matches!(event, Event::EpochDone { epoch: now, .. } if *now > epoch + 3));
    server.resume();
    first.event(|event| matches!(event, Event::Routes { bucket: true, .. }));
    let ended = first.wait().success();
    assert!(matches!(ended.events().last(), Some(Event::Finished { epoch: 150, .. })));
    let rows = folder(&sandbox, &server, &["ls", &url(), "--json"]).success().text();
    assert!(rows.contains("update/150") && rows.contains("update/149"), "{rows}");
}

#[test]
fn what_is_wrong_is_said_at_once_and_how_to_mend_it() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fails = |command: Command, parts: &[&str]| {
        let ended = Ended::of(command);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
        let error = ended.log.lines().last().unwrap_or_default();
        parts.iter().for_each(|part| assert!(error.contains(part), "{part} is not in: {}", ended.log));
    };
    fails(with_keys(node(&sandbox, &server, "a", &[]), "wrong"), &["secret key", "AWS_SECRET_ACCESS_KEY"]);
    let mut none = node(&sandbox, &server, "a", &[]);
    none.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    fails(none, &["no credentials", "AWS_PROFILE"]);
    let mut unknown = node(&sandbox, &server, "a", &[]);
    unknown.env("AWS_ACCESS_KEY_ID", "SOMEBODY");
    fails(unknown, &["access key"]);
    fails(node(&sandbox, &server, "a", &["--folder", "s3://nowhere/x"]), &["no such bucket", "s3://nowhere/x"]);
    fails(node(&sandbox, &server, "a", &["--folder", "s3://b/x"]), &["no such bucket", "s3://b/x"]);
    let mut plain = node(&sandbox, &server, "a", &[]);
    plain.env_remove("PEERFOLD_S3_ALLOW_HTTP");
    fails(plain, &["plain HTTP", "--s3-allow-http"]);
    // A profile of the shared files does as well as variables.
    fs::create_dir_all(sandbox.user_home().join(".aws")).unwrap();
    let profile = format!("[ward]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    fs::write(sandbox.user_home().join(".aws/credentials"), profile).unwrap();
    let mut profiled = node(&sandbox, &server, "a", &["--epochs", "1"]);
    profiled.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "ward");
    Ended::of(profiled).success();
}

/// The metadata service of a machine with a role: gives keys to clients that have asked for a token first.
fn metadata_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut head = Vec::new();
            while reader.read_until(b'\n', &mut head).is_ok_and(|read| read > 2) {}
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let line = head.lines().next().unwrap_or_default();
            let authorised = head.contains("x-aws-ec2-metadata-token: token");
            let (status, body) = if line.starts_with("put /latest/api/token") {
                ("200 OK", "token".to_owned())
            } else if line.contains("/iam/security-credentials/ ") && authorised {
                ("200 OK", "ward-role".to_owned())
            } else if line.contains("/iam/security-credentials/ward-role") && authorised {
                let keys = json!({
                    "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY,
                    "Token": "session", "LastUpdated": "2020-01-01T00:00:00Z", "Expiration": "2100-01-01T00:00:00Z",
                });
                ("200 OK", keys.to_string())
            } else {
                ("404 Not Found", String::new())
            };
            let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600";
            let length = body.len();
            // A client that doesn't read the answer has given up.
            let _ = write!(
                &stream,
                "HTTP/1.1 {status}\r\n{ttl}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    endpoint
}

#[test]
fn what_aws_users_have_set_up_is_enough() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let aws = sandbox.user_home().join(".aws");
    fs::create_dir_all(&aws).unwrap();
    let endpoint = server.endpoint();
    let keys = sandbox.path("keys.json");
    let json = json!({
        "Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Expiration": "2100-01-01T00:00:00Z",
    });
    fs::write(&keys, json.to_string()).unwrap();
    let credentials = format!("[plain]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    fs::write(aws.join("credentials"), credentials).unwrap();
    let config = format!(
        "[profile plain]\nregion = {REGION}\nendpoint_url = {endpoint}\n\
         [profile asked]\nregion = {REGION}\nendpoint_url = {endpoint}\ncredential_process = /bin/cat {}\n",
        keys.display()
    );
    fs::write(aws.join("config"), config).unwrap();
    let ls = |variables: &[(&str, &str)]| {
        let mut command = sandbox.command(["folder", "ls", &url(), "--federation", "test"]);
        command.env("PATH", "/usr/bin:/bin").env("PEERFOLD_S3_ALLOW_HTTP", "true").envs(variables.iter().copied());
        let ended = Ended::of(command).success();
        assert_eq!(ended.text().trim(), "nothing is there", "{variables:?}: {}", ended.log);
    };
    ls(&[("AWS_PROFILE", "plain")]);
    ls(&[("AWS_PROFILE", "asked")]);
    let variables = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    ls(&[&variables[..], &[("AWS_ENDPOINT_URL_S3", &endpoint), ("AWS_REGION", REGION)]].concat());
    ls(&[&variables[..], &[("AWS_ENDPOINT_URL", &endpoint), ("AWS_DEFAULT_REGION", REGION)]].concat());
    let metadata = metadata_service();
    ls(&[
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_REGION", REGION),
    ]);
    // Whether the prefix is sealed is asked for, and it isn't.
    let answered = |status: u16, path: &str| status == 200 || status == 404 && path.ends_with("/peerfold-sealed");
    let seen = server.requests();
    assert!(!seen.is_empty() && seen.iter().all(|seen| answered(seen.status, &seen.path)));
}

#[test]
fn values_go_in_and_out_by_hand() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    fs::write(sandbox.path("notes.json"), "{\"ward\": 7}").unwrap();
    let home = sandbox.path("home");
    let home = home.to_str().unwrap();
    for url in [url(), sandbox.folder()] {
        let do_ = |args: &[&str]| folder(&sandbox, &server, args);
        let nothing = do_(&["ls", &url]).success();
        assert_eq!(nothing.text().trim(), "nothing is there");
        let empty = do_(&["digest", &url]).success().text();
        let put = ["put", &url, "notes", "notes.json", "--home", home, "--metric", "beds=12", "--json"];
        if !sandbox.path("home").exists() {
            // A home that isn't there may be one that nobody meant.
            let none = do_(&["rm", &url, "notes", "--home", home]);
            assert!(!none.status.success() && !sandbox.path("home").exists(), "{}", none.log);
            let made = do_(&put).success();
            assert!(made.log.contains("it was made, with a new identity"), "{}", made.log);
        }
        let put = do_(&put).success();
        let row: Value = serde_json::from_str(&put.text()).unwrap();
        assert_eq!((row["name"].as_str(), row["metrics"]["beds"].as_f64()), (Some("notes"), Some(12.0)));
        let author = row["author"].as_str().unwrap();
        let key = format!("{}/notes", &author[author.len() - 6..]);
        do_(&["get", &url, &key, "--output", "out.json"]).success();
        assert_eq!(fs::read(sandbox.path("out.json")).unwrap(), fs::read(sandbox.path("notes.json")).unwrap());
        assert_ne!(do_(&["digest", &url]).success().text(), empty);
        do_(&["rm", &url, "notes", "--home", home]).success();
        assert_eq!(do_(&["ls", &url]).success().text().trim(), "nothing is there");
        let gone = do_(&["get", &url, &key, "--output", "out.json"]);
        assert_eq!(gone.status.code(), Some(1));
        assert!(gone.log.contains("there is no"), "{}", gone.log);
        assert_eq!(do_(&["rm", &url, "notes", "--home", home]).status.code(), Some(1));
    }
    // Who only reads leaves nothing behind.
    assert!(!sandbox.user_home().join(".peerfold").exists());
    let authors = |dir: &std::path::Path| fs::read_dir(dir).unwrap().count();
    let federation = fs::read_dir(sandbox.path("folder")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(authors(&federation), 1);
}

#[test]
fn the_proof_of_a_copied_home_comes_into_the_bucket_and_the_remedy_that_is_told_works() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = |home: &str, args: &[&str]| Ended::of(node(&sandbox, &server, home, args));
    let first = run("one", &["--epochs", "2", "--partition", "0/2"]).success();
    super::identity::copy(&sandbox, "one", "two");
    // Both sign under the same numbers, where neither sees the other.
    let elsewhere = format!("s3://{BUCKET}/elsewhere");
    run("one", &["--epochs", "4", "--partition", "0/2", "--folder", &elsewhere]).success();
    run("two", &["--epochs", "4", "--partition", "0/2", "--data-seed", "7"]).success();
    let args = ["--epochs", "100000", "--partition", "1/2", "--period", "0.1", "--s3-poll", "0.1"];
    let mut third = Running::start(node(&sandbox, &server, "third", &args));
    third.event(|event| matches!(event, Event::EpochDone { .. }));
    let copied = run("one", &["--epochs", "6", "--partition", "0/2"]);
    let peer = super::identity::started(&first);
    assert!(!copied.status.success() && copied.log.contains(&format!("--readmit {peer}")), "{}", copied.log);
    third.event(|event| matches!(event, Event::Excluded { author, .. } if *author == peer));
    let again = run("one", &["--epochs", "6", "--partition", "0/2", "--readmit", &peer]).success();
    assert!(matches!(again.events().last(), Some(Event::Finished { epoch: 6, stopped: false, .. })));
}

#[test]
fn another_program_reads_the_bucket_by_its_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/ci-tools/bin/python");
    if !python.exists() {
        println!("skipped: no Python with boto3; .ci/install-tools installs one");
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let ended =
        Ended::of(node(&sandbox, &server, "a", &["--epochs", "2", "--out", "a.safetensors", "--layout", "burn"]))
            .success();
    let mut command = with_keys(Command::new(python), SECRET_KEY);
    command.current_dir(sandbox.path("")).arg(root.join("examples/read_bucket.py"));
    command.args([&url(), "read", "--endpoint-url", &server.endpoint()]);
    let read = Ended::of(command).success();
    let started = |event: &Event| match event {
        Event::Started { peer, .. } => Some(peer.clone()),
        _ => None,
    };
    let peer = ended.events().iter().find_map(started).unwrap();
    assert!(read.text().contains(peer.as_str()) && read.text().contains("update/2"), "{}", read.text());
    let load = |path: PathBuf| Weights::from_safetensors(&fs::read(path).unwrap().into()).unwrap();
    let by_python = load(sandbox.path(format!("read/{peer}-2.safetensors")));
    assert_eq!(by_python, load(sandbox.path("a.safetensors")));
}

#[test]
fn behind_a_network_the_bucket_carries_those_who_have_no_other_way() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // Neither knows of the other's address: only the bucket joins them.
    let tiered = |home: &str, index: &str, epochs: &str| {
        let url = url();
        let args = ["--folder", "p2p:", "--fallback", &url, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
        let more = ["--epochs", epochs, "--partition", index, "--min-peers", "1", "--s3-poll", "0.1"];
        Running::start(node(&sandbox, &server, home, &[&args[..], &more].concat()))
    };
    let (one, two) = (tiered("a", "0/2", "30"), tiered("b", "1/2", "30"));
    for node in [one, two] {
        let ended = node.wait().success();
        let events = ended.events();
        assert_eq!(folded_with_peers(&events).len(), 1, "{events:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Routes { network: Some(false), bucket: true, .. })));
    }
    let rows = folder(&sandbox, &server, &["ls", &url(), "--json"]).success().text();
    assert_eq!(rows.matches("/update/30\"").count(), 2, "{rows}");
}

/// The proxy before a server answers with this page, whatever it is asked.
fn answered_by(page: Fault) -> (Server, FaultProxy) {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address());
    proxy.inject(page);
    (server, proxy)
}

#[test]
fn a_login_page_is_no_empty_bucket() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("note"), "hi").unwrap();
    let page = "<!DOCTYPE html><html><body><h1>Guest WiFi</h1></body></html>";
    let pages = [
        (Fault::page(200, "text/html", page), "Guest WiFi"),
        (Fault::page(200, "application/xml", "<?xml version=\"1.0\"?><html><body/></html>"), "an HTML page"),
        (Fault::page(200, "application/json", "{\"error\":\"login\"}"), "JSON"),
        (Fault::page(200, "text/html", ""), "empty"),
        (Fault::page(302, "text/html", page).header("location", "http://login.example/"), "http://login.example/"),
        (Fault::page(403, "text/html", page), "403 Forbidden"),
    ];
    for (page, words) in pages {
        let (_server, proxy) = answered_by(page);
        let (url, put) = (url(), sandbox.path("note"));
        for args in [
            &["ls", &url][..],
            &["digest", &url],
            &["get", &url, "x/y", "--output", "out"],
            &["put", &url, "note", put.to_str().unwrap(), "--home", "home"],
            &["rm", &url, "note", "--home", "home"],
        ] {
            let mut command = with_keys(sandbox.command(["folder"].iter().chain(args)), SECRET_KEY);
            command.env("PEERFOLD_S3_ENDPOINT", proxy.endpoint()).env("PEERFOLD_S3_ALLOW_HTTP", "true");
            command.env("PEERFOLD_FEDERATION", "test");
            let ended = Ended::of(command);
            assert_eq!((ended.status.code(), ended.lines.len()), (Some(1), 0), "{args:?}: {:?}", ended.lines);
            let error = ended.log.lines().last().unwrap_or_default();
            for part in ["isn't S3", words, &url] {
                assert!(error.contains(part), "{args:?}: {part} is not in {}", ended.log);
            }
        }
    }
}

#[test]
fn proxies_are_for_what_is_elsewhere_and_named_when_they_fail() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://somebody:secret-word@{nobody}");
    let url = url();
    let ls = |endpoint: &str, variables: &[&str]| {
        let mut command = with_keys(sandbox.command(["folder", "ls", &url]), SECRET_KEY);
        command.env("PEERFOLD_S3_ENDPOINT", endpoint).env("PEERFOLD_S3_ALLOW_HTTP", "true");
        command.env("PEERFOLD_FEDERATION", "test").envs(variables.iter().map(|name| (name, &proxy)));
        Ended::of(command)
    };
    // This machine's own servers are not asked through any.
    let port = server.endpoint().rsplit_once(':').unwrap().1.to_owned();
    let variables = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    ls(&server.endpoint(), &variables).success();
    ls(&format!("http://localhost:{port}"), &variables).success();
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        let ended = ls("http://192.0.2.1:9000", &[name]);
        assert_eq!(ended.status.code(), Some(1), "{name}");
        let error = ended.log.lines().last().unwrap();
        assert!(error.contains(&format!("through the proxy http://{nobody}/")), "{name}: {}", ended.log);
        assert!(error.contains("doesn't answer") && !ended.log.contains("secret-word"), "{name}: {}", ended.log);
    }
    // A working proxy is used, and answers of its own are reported with its name.
    let way = FaultProxy::start(server.address());
    let through = |secret: &str| {
        let mut command = with_keys(sandbox.command(["folder", "ls", &url]), secret);
        command.env("PEERFOLD_S3_ENDPOINT", "http://192.0.2.1:9000").env("PEERFOLD_S3_ALLOW_HTTP", "true");
        command.env("HTTP_PROXY", way.endpoint()).env("PEERFOLD_FEDERATION", "test");
        Ended::of(command)
    };
    through(SECRET_KEY).success();
    assert!(!way.requests().is_empty());
    way.inject(Fault::page(407, "text/html", "<html><body>Who are you?</body></html>"));
    let ended = through(SECRET_KEY);
    let error = ended.log.lines().last().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    for part in ["isn't S3", "407 Proxy Authentication Required", &format!("through the proxy {}/", way.endpoint())] {
        assert!(error.contains(part), "{part} is not in {}", ended.log);
    }
}

#[test]
fn who_has_no_keys_is_told_so_in_a_plain_sentence() {
    let sandbox = Sandbox::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = url();
    let service = format!("http://{nobody}");
    let (_server, proxy) = answered_by(Fault::page(403, "text/plain", "denied"));
    let forbidden = proxy.endpoint();
    for variables in [
        &[("AWS_EC2_METADATA_DISABLED", "true")][..],
        // As on a machine that is nowhere in a cloud.
        &[("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service)],
        &[("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &forbidden)],
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &service)],
        &[("AWS_PROFILE", "nowhere")],
    ] {
        let mut command = sandbox.command(["folder", "ls", &url, "--federation", "test"]);
        command
            .env("AWS_REGION", REGION)
            .env("PEERFOLD_S3_ENDPOINT", "http://127.0.0.1:9")
            .env("PEERFOLD_S3_ALLOW_HTTP", "true");
        command.envs(variables.iter().copied());
        let ended = Ended::of(command);
        println!("{variables:?}: {}", ended.log);
        assert_eq!(ended.status.code(), Some(1), "{variables:?}");
        let error = ended.log.lines().last().unwrap_or_default();
        assert!(error.contains("no credentials were found: set AWS_ACCESS_KEY_ID"), "{variables:?}: {}", ended.log);
        assert!(!ended.log.contains(['{', '}']) && !error.contains("::"), "{variables:?}: {}", ended.log);
    }
}
