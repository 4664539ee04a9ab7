//! The file in which operators' orders outlive a restart.
//!
//! Owns reading and replacing it: it is whole at every moment, the old one or the new one (written beside it, then renamed).

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
};

use crate::fleet::Orders;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Reads it. No file is no orders.
pub(super) fn load(file: &Path) -> Result<Orders, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
    match fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Orders::default()),
        Err(error) => return Err(wrong(&error)),
        Ok(found) if found.len() > MAX_BYTES => return Err(wrong(&"it is too long for a list of orders")),
        Ok(_) => {}
    }
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    Orders::from_text(&text).map_err(|problem| wrong(&problem))
}

/// Replaces it.
pub(super) fn save(file: &Path, orders: &Orders) -> Result<(), String> {
    let beside = file.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        let mut new = fs::File::create(&beside)?;
        new.write_all(orders.to_text().as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        // The name is in the directory.
        fs::File::open(
            file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        )?
        .sync_all()
    };
    write().map_err(|error| format!("{} can't be written: {error}", file.display()))
}
