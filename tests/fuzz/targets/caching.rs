//! libFuzzer's entry to `checks::caching`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::caching(data));
