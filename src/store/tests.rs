//! The store on its own: bounds, eviction, flights, purges, and all of it at once from several threads.

use super::*;
use crate::cache::{Ask, KeySettings, Meta, Origin, Request};
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use crate::http::path::PathPolicy;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

const MIB: u64 = 1 << 20;

fn key(path: &str) -> Key {
    let fields = OwnedFields::default();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (path, None),
    };
    let view = RequestView {
        method: b"GET",
        host: b"a.test",
        path: path.as_bytes(),
        query,
        fields: fields.view(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let request = Request {
        view,
        scheme: "http",
        port: None,
        authority: b"a.test",
        local_port: 443,
        group: "",
        trusted: false,
        identified: false,
        has_body: false,
    };
    Key::of(&KeySettings::default(), &request, "r")
}

fn meta(tags: &[&str]) -> Meta {
    let tags = tags.iter().map(|tag| Box::from(tag.as_bytes())).collect();
    Meta { status: 200, lifetime: Duration::from_secs(60), tags, ..Meta::default() }
}

fn entry_of(path: &str, variant: &str, octets: usize, tags: &[&str]) -> Arc<Entry> {
    let lines = b"content-type: text/plain\r\ncache-tag: x\r\n".to_vec();
    Arc::new(Entry::new(
        key(path),
        Box::from(variant.as_bytes()),
        Arc::from("r"),
        meta(tags),
        lines,
        Some("cache-tag"),
        Arc::new(vec![b'x'; octets].into_boxed_slice()),
    ))
}

fn entry(path: &str, octets: usize) -> Arc<Entry> {
    entry_of(path, "", octets, &[])
}

fn store(octets: u64) -> Arc<Store> {
    let store = Arc::new(Store::default());
    store.resize(octets);
    store
}

fn put(store: &Store, entry: &Arc<Entry>) -> Put {
    let stamp = store.look(&entry.key).unwrap().stamp();
    store.put(entry, stamp)
}

fn find(store: &Store, path: &str) -> Option<Arc<Entry>> {
    let key = key(path);
    store.look(&key)?.entries(&key).next_back().cloned()
}

// What the store says it holds is what it holds.
fn audit(store: &Store) {
    let table = store.table.get().unwrap();
    let (mut octets, mut entries) = (0, 0);
    for place in table.taken() {
        let (more, count) = table.charge_of(place);
        octets += more;
        entries += count;
    }
    let stat = store.stat();
    assert_eq!((stat.octets, stat.entries), (octets, entries));
}

#[test]
fn a_store_of_no_size_holds_nothing_and_costs_nothing() {
    let store = Store::default();
    assert!(store.look(&key("/")).is_none() && store.table.get().is_none());
}

#[test]
fn finds_what_was_put_and_hides_tags_from_clients() {
    let store = store(MIB);
    assert_eq!(put(&store, &entry("/a", 10)), Put::Stored);
    let found = find(&store, "/a").unwrap();
    assert_eq!(found.body.len(), 10);
    let names: Vec<_> = found.fields.iter().map(|field| field.name.of(&found.lines)).collect();
    assert_eq!(names, [b"content-type"]);
    assert!(find(&store, "/b").is_none());
    assert_eq!(put(&store, &entry("/a", 20)), Put::Stored);
    assert_eq!((find(&store, "/a").unwrap().body.len(), store.stat().entries), (20, 1));
    audit(&store);
}

#[test]
fn holds_no_more_than_it_may_cache_11() {
    let store = store(MIB);
    for n in 0..1000 {
        assert_eq!(put(&store, &entry(&format!("/{n}"), 4096)), Put::Stored);
        assert!(store.stat().octets <= MIB, "after {n}");
    }
    audit(&store);
    let stat = store.stat();
    assert!(stat.entries > 200 && stat.evictions == 1000 - stat.entries, "{stat:?}");
    assert_eq!(put(&store, &entry("/large", 2 << 20)), Put::NoRoom);
    store.resize(MIB / 4);
    assert!(store.stat().octets <= MIB / 4);
    store.resize(0);
    assert_eq!((store.stat().octets, store.stat().entries), (0, 0));
}

#[test]
fn what_is_asked_for_stays_longer() {
    let store = store(MIB);
    for n in 0..40 {
        put(&store, &entry(&format!("/hot/{n}"), 4096));
    }
    for n in 0..2000 {
        for hot in 0..40 {
            find(&store, &format!("/hot/{hot}")).inspect(|entry| entry.touch());
        }
        put(&store, &entry(&format!("/cold/{n}"), 4096));
    }
    let left = (0..40).filter(|n| find(&store, &format!("/hot/{n}")).is_some()).count();
    assert!(left >= 35, "{left} of 40");
}

#[test]
fn a_key_has_no_more_variants_than_it_may_cache_06() {
    let store = store(16 * MIB);
    let most = crate::cache::vary::MOST_VARIANTS;
    for n in 0..most + 50 {
        put(&store, &entry_of("/", &format!("v{n}"), 10, &[]));
    }
    let key = key("/");
    let look = store.look(&key).unwrap();
    assert_eq!(look.entries(&key).count(), most);
    drop(look);
    audit(&store);
}

#[test]
fn one_leads_and_all_others_are_told() {
    let store = store(MIB);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    store.on_landing(move |worker, tickets| heard.lock().unwrap().push((worker, tickets)));
    let key = key("/");
    let claim = |now| store.claim(&store.look(&key).unwrap(), &key, b"", false, now);
    let Claimed::Led(first) = claim(Tick::ZERO) else { panic!("nobody leads") };
    for (worker, ticket) in [(0, 5), (1, 6), (0, 7)] {
        let Claimed::Join(flight) = claim(Tick::ZERO) else { panic!("two lead") };
        assert!(flight.join(worker, ticket));
    }
    let Claimed::Join(flight) = claim(Tick::ZERO) else { panic!("two lead") };
    assert_eq!(store.put(&entry("/", 10), first.stamp()), Put::Stored);
    first.land(Landing::Stored);
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort();
    assert_eq!(told, [(0, vec![5, 7]), (1, vec![6])]);
    assert_eq!(flight.landed(), Some(Landing::Stored));
    assert!(!flight.join(0, 9), "who comes late is not told");
    assert!(matches!(claim(Tick::ZERO), Claimed::Led(_)), "a flight that landed is over");
    audit(&store);
}

#[test]
fn a_leader_that_goes_away_leaves_nobody_waiting() {
    let store = store(MIB);
    let key = key("/");
    let claim = || store.claim(&store.look(&key).unwrap(), &key, b"", false, Tick::ZERO);
    let Claimed::Led(first) = claim() else { panic!("nobody leads") };
    let Claimed::Join(flight) = claim() else { panic!("two lead") };
    drop(first);
    assert_eq!(flight.landed(), Some(Landing::Abandoned));
    assert!(matches!(claim(), Claimed::Led(_)));
}

#[test]
fn what_is_not_to_be_stored_serialises_nobody_cache_08() {
    let store = store(MIB);
    let key = key("/");
    let claim = |now| store.claim(&store.look(&key).unwrap(), &key, b"", false, now);
    let now = Tick::now();
    let Claimed::Led(first) = claim(now) else { panic!("nobody leads") };
    first.land(Landing::Uncacheable);
    assert!(matches!(claim(now), Claimed::Alone));
    let personal = store.claim(&store.look(&key).unwrap(), &key, b"", true, now);
    assert!(matches!(personal, Claimed::Led(_)), "it says nothing of other requests");
    drop(personal);
    audit(&store);
    assert!(store.stat().octets > 0, "what is remembered counts");
    let later = Tick::now().after(UNCACHEABLE_FOR);
    let Claimed::Led(second) = claim(later) else { panic!("remembered for too long") };
    drop(second);
    audit(&store);
    assert_eq!(store.stat().octets, 0);
    let Claimed::Led(third) = claim(later) else { panic!("nobody leads") };
    third.land(Landing::Uncacheable);
    (0..1 << 10).for_each(|_| store.sweep(later.after(UNCACHEABLE_FOR * 2)));
    audit(&store);
    assert_eq!(store.stat().octets, 0);
}

#[test]
fn what_is_remembered_makes_room_too() {
    let store = store(MIB);
    for n in 0..10_000 {
        let key = key(&format!("/{n}"));
        let claimed = store.claim(&store.look(&key).unwrap(), &key, b"", false, Tick::ZERO);
        let Claimed::Led(claim) = claimed else { panic!("nobody leads") };
        claim.land(Landing::Uncacheable);
    }
    assert!(store.stat().octets <= MIB, "{:?}", store.stat());
    audit(&store);
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_stored_after_it() {
    let store = store(MIB);
    let all = Purge { target: Target::All, rule: None, soft: false };
    let before = store.look(&key("/a")).unwrap().stamp();
    store.purge(&all, Tick::now());
    assert_eq!(store.put(&entry("/a", 1), before), Put::Outdated);
    let before = store.look(&key("/a")).unwrap().stamp();
    let origin = Origin { base: b"http://a.test:80/a".to_vec(), query: None };
    assert_eq!(store.invalidate(&key("/a"), &origin), 0);
    assert_eq!(store.put(&entry("/a", 1), before), Put::Outdated);
    assert_eq!(put(&store, &entry("/a", 1)), Put::Stored);
    assert_eq!(store.invalidate(&key("/a"), &origin), 1);
    assert!(find(&store, "/a").is_none());
}

#[test]
fn purges_what_is_named_and_nothing_else_cache_13() {
    let purge = |target: Target, rule: Option<&str>| Purge {
        target,
        rule: rule.map(str::to_owned),
        soft: false,
    };
    let url = |text: &str| Target::url(text, PathPolicy::default()).unwrap();
    let prefix = |text: &str| Target::prefix(text, PathPolicy::default()).unwrap();
    for (purge, left) in [
        (purge(Target::All, None), ""),
        (purge(Target::All, Some("s")), "/a /a/b /a?q=1 /b"),
        (purge(url("http://a.test/a"), None), "/a/b /a?q=1 /b"),
        (purge(url("http://A.test:80/a?q=1"), None), "/a /a/b /b"),
        (purge(url("https://a.test/a"), None), "/a /a/b /a?q=1 /b"),
        (purge(url("http://b.test/a"), None), "/a /a/b /a?q=1 /b"),
        (purge(prefix("http://a.test/a"), None), "/b"),
        (purge(prefix("http://a.test/a/"), None), "/a /a?q=1 /b"),
        (purge(prefix("http://a.test/a?"), None), "/a /a/b /b"),
        (purge(prefix("http://a.tes"), None), "/a /a/b /a?q=1 /b"),
        (purge(Target::Tag(b"one".to_vec()), None), "/a/b /b"),
        (purge(Target::Tag(b"on".to_vec()), None), "/a /a/b /a?q=1 /b"),
        (purge(Target::Tag(b"two".to_vec()), Some("r")), "/a /a/b /b"),
    ] {
        let store = store(MIB);
        let all: [(&str, &[&str]); 4] =
            [("/a", &["one"]), ("/a/b", &[]), ("/a?q=1", &["one", "two"]), ("/b", &["three"])];
        for (path, tags) in all {
            put(&store, &entry_of(path, "", 10, tags));
        }
        let purged = store.purge(&purge, Tick::now());
        let there = all.iter().map(|(path, _)| *path).filter(|path| find(&store, path).is_some());
        let there: Vec<_> = there.collect();
        assert_eq!(there.join(" "), left, "{purge:?}");
        assert_eq!(purged.removed as usize, 4 - there.len(), "{purge:?}");
        audit(&store);
    }
}

#[test]
fn a_soft_purge_makes_stale_what_it_names() {
    use crate::cache::{Verdict, judge};
    let store = store(MIB);
    let fresh = entry_of("/a", "", 10, &["one"]);
    put(&store, &fresh);
    let judged = |now| judge(&fresh.meta(), &Ask::default(), now);
    let now = Tick::ZERO.after(Duration::from_secs(5));
    assert_eq!(judged(now), Verdict::Fresh);
    let soft = Purge { target: Target::Tag(b"one".to_vec()), rule: None, soft: true };
    assert_eq!(store.purge(&soft, now), Purged { removed: 0, stale: 1 });
    assert_eq!(store.purge(&soft, now), Purged::default(), "once");
    assert_eq!(judged(now), Verdict::Revalidate);
}

#[test]
fn what_is_of_no_use_is_swept_out() {
    let store = store(MIB);
    put(&store, &entry("/a", 10));
    (0..1 << 10).for_each(|_| store.sweep(Tick::ZERO.after(Duration::from_secs(59))));
    assert!(find(&store, "/a").is_some());
    (0..1 << 10).for_each(|_| store.sweep(Tick::ZERO.after(Duration::from_secs(61))));
    assert!(find(&store, "/a").is_none());
    assert_eq!((store.stat().expired, store.stat().octets), (1, 0));
}

#[test]
fn rules_that_store_no_more_keep_nothing() {
    let store = store(MIB);
    put(&store, &entry("/a", 10));
    store.keep_rules(|rule| rule == "r");
    assert!(find(&store, "/a").is_some());
    store.keep_rules(|_| false);
    assert!(find(&store, "/a").is_none());
}

#[test]
fn responses_on_their_way_have_a_bound_too() {
    let store = store(MIB);
    let (mut one, mut two) = (store.room(), store.room());
    assert!(one.grow(400 << 10) && !two.grow(200 << 10));
    assert!(one.grow(300 << 10), "there is room for it already");
    drop(one);
    assert!(two.grow(500 << 10));
    drop(two);
    assert_eq!(store.stat().filling, 0);
}

#[test]
fn a_renewal_takes_the_place_of_what_it_renews_and_of_nothing_else() {
    let store = store(MIB);
    let (old, new) = (entry("/a", 10), entry("/a", 10));
    put(&store, &old);
    let stamp = store.look(&key("/a")).unwrap().stamp();
    assert!(store.renew(&old, &new, stamp));
    assert!(Arc::ptr_eq(&find(&store, "/a").unwrap(), &new));
    assert!(!store.renew(&old, &entry("/a", 10), stamp), "it is gone");
    assert_eq!(store.stat().entries, 1);
    audit(&store);
}

#[test]
fn a_soft_purge_is_not_lost_to_a_renewal_that_was_on_its_way() {
    use crate::cache::{Verdict, judge};
    for (target, expected) in
        [(None, Verdict::Fresh), (Some(Target::Tag(b"one".to_vec())), Verdict::Revalidate)]
    {
        let store = store(MIB);
        let (old, new) = (entry_of("/a", "", 10, &["one"]), entry_of("/a", "", 10, &["one"]));
        put(&store, &old);
        let stamp = store.look(&key("/a")).unwrap().stamp();
        if let Some(target) = target {
            let soft = Purge { target, rule: None, soft: true };
            assert_eq!(store.purge(&soft, Tick::ZERO).stale, 1);
        }
        assert!(store.renew(&old, &new, stamp));
        let later = Tick::ZERO.after(Duration::from_secs(1));
        assert_eq!(judge(&new.meta(), &Ask::default(), later), expected);
    }
}

#[test]
fn a_renewal_that_varies_by_more_takes_the_place_of_its_like_too() {
    let store = store(MIB);
    let (one, two) = (entry_of("/a", "1", 10, &[]), entry_of("/a", "2", 10, &[]));
    put(&store, &one);
    put(&store, &two);
    let stamp = store.look(&key("/a")).unwrap().stamp();
    assert!(store.renew(&one, &entry_of("/a", "2", 10, &[]), stamp));
    assert_eq!(store.stat().entries, 1);
    audit(&store);
}

/// Hazard CACHE-08: who needs another variant is not helped by waiting for this one.
#[test]
fn variants_that_are_known_are_fetched_side_by_side() {
    let store = store(MIB);
    let key = key("/");
    let claim =
        |variant: &[u8]| store.claim(&store.look(&key).unwrap(), &key, variant, false, Tick::ZERO);
    let Claimed::Led(_one) = claim(b"1") else { panic!("nobody leads") };
    assert!(matches!(claim(b"1"), Claimed::Join(_)));
    assert!(matches!(claim(b"2"), Claimed::Led(_)));
}

#[test]
fn what_is_validated_for_each_request_is_remembered_as_that() {
    let store = store(MIB);
    let now = Tick::now();
    let key = key("/");
    let claim = || store.claim(&store.look(&key).unwrap(), &key, b"", false, now);
    let fetched = |no_cache: bool| {
        let meta = Meta { no_cache, ..meta(&[]) };
        let (rule, body) = (Arc::from("r"), Arc::new(Box::default()));
        Arc::new(Entry::new(key.clone(), Box::default(), rule, meta, Vec::new(), None, body))
    };
    let Claimed::Led(first) = claim() else { panic!("nobody leads") };
    first.land(Landing::Uncacheable);
    put(&store, &fetched(true));
    assert!(matches!(claim(), Claimed::Alone), "nobody who waits would be served by it");
    put(&store, &fetched(false));
    assert!(matches!(claim(), Claimed::Led(_)));
}

#[test]
fn many_threads_at_once_lose_nothing_and_count_right() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let store = store(MIB);
    let origin =
        |n: u32| Origin { base: format!("http://a.test:80/{n}").into_bytes(), query: None };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(thread));
                for _ in 0..3000 {
                    let n = rng.u32(..200);
                    let path = format!("/{n}");
                    let key = key(&path);
                    match rng.u32(..20) {
                        0 => drop(store.invalidate(&key, &origin(n))),
                        1 => store.sweep(Tick::ZERO),
                        2..=8 => drop(find(store, &path).inspect(|entry| entry.touch())),
                        9 => drop(find(store, &path).inspect(|entry| store.forget(entry))),
                        _ => {
                            let look = store.look(&key).unwrap();
                            let Claimed::Led(claim) =
                                store.claim(&look, &key, b"", false, Tick::now())
                            else {
                                continue;
                            };
                            drop(look);
                            let entry = entry(&path, rng.usize(..8192));
                            store.put(&entry, claim.stamp());
                            claim.land(Landing::Stored);
                        }
                    }
                }
            });
        }
    });
    audit(&store);
    assert!(store.stat().octets <= MIB, "{:?}", store.stat());
    assert_eq!(store.stat().filling, 0);
    for n in 0..200 {
        let key = key(&format!("/{n}"));
        assert!(matches!(
            store.claim(&store.look(&key).unwrap(), &key, b"", false, Tick::now()),
            Claimed::Led(_)
        ));
    }
}
