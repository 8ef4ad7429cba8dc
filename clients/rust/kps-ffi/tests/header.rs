//! `include/kps.h` is made from this crate. `KPS_WRITE_HEADER=1 cargo test -p kps-ffi` makes it anew.

#[test]
fn the_header_is_up_to_date() {
    let root = env!("CARGO_MANIFEST_DIR");
    let config = cbindgen::Config::from_file(format!("{root}/cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::generate_with_config(root, config).unwrap().write(&mut made);
    let path = format!("{root}/include/kps.h");
    if std::env::var_os("KPS_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let made = String::from_utf8(made).unwrap();
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == made,
        "KPS_WRITE_HEADER=1 makes it"
    );
}
