//! Compiles the `.proto` files without protoc, and keeps their descriptors.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 6] = [
    "etcd/rpc.proto",
    "etcd/v3lock.proto",
    "etcd/v3election.proto",
    "health/health.proto",
    "holdfast/command.proto",
    "holdfast/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for folder in ["etcd", "health", "holdfast"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut descriptors = protox::compile(FILES, ["."])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    // "URLs" would become `ur_ls` in Rust. Binary messages carry numbers only, so the code may use another
    // name than the descriptors, which keep upstream's.
    for message in descriptors
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
    {
        for field in &mut message.field {
            field.name = field.name.take().map(|name| name.replace("URLs", "_urls"));
        }
    }
    tonic_prost_build::configure()
        .bytes(".")
        // Clients bring their own channel, servers their own listener: only the codec layer of tonic is needed.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .include_file("tree.rs")
        .out_dir(&out)
        .compile_fds(descriptors)?;
    Ok(())
}
