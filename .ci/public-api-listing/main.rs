//! `public-api-listing FILE`: the public items in a file of rustdoc's JSON, one a line. Without what comes by itself: blanket
//! implementations, auto traits, derived traits.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args_os().nth(1).ok_or("which file is missing")?;
    let items = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    print!("{items}");
    Ok(())
}
