//! The C template's bindings are what the generator makes of the contract.

use std::fs;
use std::path::Path;

use wit_bindgen_c::{Enabled, Opts};
use wit_parser::Resolve;

/// `BLESS=1` writes them anew.
#[test]
fn c_bindings_are_those_of_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root.join("wit/v1")).unwrap();
    let world = resolve.select_world(&[package], Some("format-plugin")).unwrap();
    let mut files = Default::default();
    // consign embeds the type when it makes the component. Borrows that are not
    // given back end the plugin, so nobody should have to think of it.
    let options = Opts { no_object_file: true, autodrop_borrows: Enabled::Yes, ..Opts::default() };
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let folder = root.join("plugins/templates/c/src/bindings");
    for (name, made) in files.iter() {
        let path = folder.join(name);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, made).unwrap();
        }
        assert!(fs::read(&path).unwrap() == made, "{} is old: run this test with BLESS=1", path.display());
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), files.iter().count());
}
