//! libFuzzer's entry to `checks::cookies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::cookies(data));
