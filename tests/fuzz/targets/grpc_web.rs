//! libFuzzer's entry to `checks::grpc_web`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::grpc_web(data));
