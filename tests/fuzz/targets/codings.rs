//! libFuzzer's entry to `checks::codings_and_bodies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::codings_and_bodies(data));
