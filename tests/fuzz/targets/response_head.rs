//! libFuzzer's entry to `checks::response_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::response_head(data));
