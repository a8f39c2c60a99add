//! Thumbnails of JPEG and PNG pictures, by the crate `image`. The configuration is JSON: `{"size": 128}`, the longest
//! side in pixels.

use ferrule::{serde::Deserialize, Context, Error, Json};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};
use std::io::Cursor;

ferrule::plugin!(name: "thumbnail", version: env!("CARGO_PKG_VERSION"), threads: "concurrent", state: Settings);

/// The most memory that a decoded picture may take: a file of some kilobytes can say that it is as large as it likes.
const MAX_BYTES: u64 = 512 << 20;

#[derive(Deserialize)]
#[serde(crate = "ferrule::serde", default, deny_unknown_fields)]
struct Settings {
    size: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { size: 128 }
    }
}

impl ferrule::State for Settings {
    type Config = Json<Settings>;

    fn start(_ctx: &Context, Json(settings): Json<Settings>) -> ferrule::Result<Settings> {
        match settings.size {
            1..=4096 => Ok(settings),
            size => Err(Error::invalid(format!("found a size of {size} pixels, expected 1 to 4096"))),
        }
    }
}

/// Makes a small picture of a JPEG or PNG one, in the same format and upright. One that is small is not enlarged.
#[ferrule::export]
fn thumbnail(settings: &Settings, picture: &[u8]) -> ferrule::Result<Vec<u8>> {
    let reader = ImageReader::new(Cursor::new(picture)).with_guessed_format()?;
    let format = reader.format().ok_or_else(|| Error::invalid("found no picture, expected a JPEG or PNG one"))?;
    let mut decoder = reader.into_decoder().map_err(bad_picture)?;
    if decoder.total_bytes() > MAX_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(Error::invalid(format!(
            "found {width} x {height} pixels, expected at most {MAX_BYTES} bytes of them"
        )));
    }
    let orientation = decoder.orientation().map_err(bad_picture)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(bad_picture)?;
    if image.width().max(image.height()) > settings.size {
        image = image.thumbnail(settings.size, settings.size);
    }
    image.apply_orientation(orientation);
    let mut small = Cursor::new(Vec::new());
    image.write_to(&mut small, format)?;
    Ok(small.into_inner())
}

fn bad_picture(error: ImageError) -> Error {
    match error {
        ImageError::Unsupported(error) => Error::unsupported(error),
        error => Error::invalid(error),
    }
}
