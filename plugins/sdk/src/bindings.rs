//! What is generated from the contract (`wit/v1`), which documents it.

wit_bindgen::generate!({
    world: "format-plugin",
    path: "../../wit/v1",
    pub_export_macro: true,
    default_bindings_module: "::consign_sdk::bindings",
    runtime_path: "::wit_bindgen::rt",
});
