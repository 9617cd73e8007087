//! Replays every file of `tests/corpus/` through the check of its target: what fuzzing once found stays found, also
//! where nothing can be fuzzed.
//!
//! The checks are those of the fuzz targets (`tests/fuzz/checks/`); `scripts/fuzz` says how a finding comes here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "fuzz/checks/mod.rs"]
mod checks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bounds on what is kept: a corpus is read by people, and in every clone.
const MOST_FILES: usize = 1500;
const MOST_OCTETS: usize = 1 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The names in a folder, in order; those that begin with a dot are about the folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn replay(target: &str) {
    let (_, check) = checks::ALL.iter().find(|(name, _)| *name == target).unwrap();
    let folder = root().join("corpus").join(target);
    let files = names(&folder);
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let octets = std::fs::read(folder.join(&file)).unwrap();
        if std::panic::catch_unwind(|| check(&octets)).is_err() {
            failed.push(file);
        }
    }
    assert!(failed.is_empty(), "in {}: {failed:?}", folder.display());
}

#[test]
fn request_heads_keep_one_meaning() {
    replay("request_head");
}

#[test]
fn response_heads_keep_one_meaning() {
    replay("response_head");
}

#[test]
fn content_codings_yield_the_same_however_they_are_cut() {
    replay("codings");
}

#[test]
fn frames_are_counted_as_the_reference_counts_them() {
    replay("frames");
}

#[test]
fn header_lists_keep_one_meaning_as_lines() {
    replay("lines");
}

#[test]
fn chunked_bodies_are_read_as_the_reference_reads_them() {
    replay("chunks");
}

#[test]
fn proxy_headers_are_read_as_the_reference_reads_them() {
    replay("proxy_header");
}

#[test]
fn files_are_whole_or_say_what_is_wrong() {
    replay("config");
}

#[test]
fn routes_are_found_as_a_walk_finds_them() {
    replay("routes");
}

#[test]
fn what_a_cache_goes_by_is_read_as_the_reference_reads_it() {
    replay("caching");
}

#[test]
fn cookies_and_queries_are_split_as_the_reference_splits_them() {
    replay("cookies");
}

#[test]
fn targets_are_sent_where_they_were_routed() {
    replay("target");
}

#[test]
fn grpc_fields_are_read_as_the_reference_reads_them() {
    replay("grpc");
}

#[test]
fn grpc_web_texts_are_read_as_the_reference_reads_them() {
    replay("grpc_web");
}

#[test]
fn client_hellos_are_read_as_the_reference_reads_them() {
    replay("hello");
}

#[test]
fn who_has_no_key_does_not_pass() {
    replay("signatures");
}

#[test]
fn bodies_that_pass_are_read_by_all_alike() {
    replay("bodies");
}

#[test]
fn json_means_what_it_means_to_others() {
    replay("json");
}

#[test]
fn changes_keep_values_in_their_places() {
    replay("changes");
}

#[test]
fn every_target_has_a_check_a_corpus_and_a_test() {
    let checks: BTreeSet<String> = checks::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let targets = names(&root().join("fuzz/targets"));
    let targets: BTreeSet<String> = targets.iter().map(|t| t.replace(".rs", "")).collect();
    assert_eq!(targets, checks);
    assert_eq!(names(&root().join("corpus")), checks);
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let this = std::fs::read_to_string(root().join("corpora.rs")).unwrap();
    for name in checks {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} is not built");
        assert!(this.contains(&format!("    replay(\"{name}\");\n")), "{name} is not replayed");
    }
}

#[test]
fn corpora_stay_small() {
    let (mut files, mut octets) = (0, 0);
    for target in names(&root().join("corpus")) {
        let folder = root().join("corpus").join(target);
        for file in names(&folder) {
            files += 1;
            octets += usize::try_from(folder.join(file).metadata().unwrap().len()).unwrap();
        }
    }
    assert!(files <= MOST_FILES && octets <= MOST_OCTETS, "{files} files, {octets} octets");
}
