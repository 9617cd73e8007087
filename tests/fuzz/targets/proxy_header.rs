//! libFuzzer's entry to `checks::proxy_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::proxy_header(data));
