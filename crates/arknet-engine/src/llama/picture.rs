//! Pictures of a conversation: from their files to what the model reads, and where that lies among
//! the tokens.

use std::{
    hash::{BuildHasher, RandomState},
    io::Cursor,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arknet_types::{Image, ImageFormat};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, metadata::Orientation};

use super::native::{Chunk, Pixels, Projector, Token};

/// Pixels of a picture, at most: 33 million, more than most cameras make.
const PIXELS_MAX: u64 = 1 << 25;
/// Pixels of one side, at most.
const SIDE_PIXELS_MAX: u32 = 1 << 14;
/// Pictures of one request, at most. Each takes memory before it is known whether all of them fit the
/// context, the smallest too: models make those larger.
const PICTURES_MAX: usize = 64;
/// Pixels of a picture as the model is given it, at most; larger ones are made smaller. No model here
/// tells more apart, and a request may hold many.
const SHOWN_PIXELS_MAX: u64 = 1 << 22;
/// Pixels of all pictures of one request as the model is given them, at most.
const SHOWN_PIXELS_TOTAL_MAX: u64 = 1 << 25;
/// Bytes that one file may take while it is decoded.
const DECODING_BYTES_MAX: u64 = PIXELS_MAX * 4;
/// Bytes that the pictures of one request take at most before they are tokens.
pub(crate) const FILES_BYTES_MAX: u64 = DECODING_BYTES_MAX + SHOWN_PIXELS_TOTAL_MAX * 3;

/// Why a file cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("its file is damaged or of an unusual kind")]
    Damaged,
    #[error("the model cannot take it")]
    Refused,
    #[error("all pictures together are larger than {SHOWN_PIXELS_TOTAL_MAX} pixels")]
    TooLargeTogether,
    #[error("{PICTURES_MAX} are taken in one request at most")]
    TooMany,
    #[error(
        "it has {width} x {height} pixels; {PIXELS_MAX} in all and {SIDE_PIXELS_MAX} on a side are \
         taken at most"
    )]
    TooLarge { width: u32, height: u32 },
}

/// What is wanted of a picture's file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// Its colours.
    Pixels,
    /// Its size alone.
    Size,
}

/// Reads the files of a request. On failure tells of which, counted from 0.
pub(crate) fn all_pixels<'a>(
    images: impl Iterator<Item = &'a Image>,
    wanted: Wanted,
) -> Result<Vec<Pixels>, (usize, PictureError)> {
    let mut total = 0;
    let one = |(n, image)| {
        if n >= PICTURES_MAX {
            return Err((n, PictureError::TooMany));
        }
        let pixels = pixels(image, wanted).map_err(|error| (n, error))?;
        total += pixels.count();
        if total > SHOWN_PIXELS_TOTAL_MAX {
            return Err((n, PictureError::TooLargeTogether));
        }
        Ok(pixels)
    };
    images.enumerate().map(one).collect()
}

/// Reads a file. Whatever it holds, this ends within the limits above.
fn pixels(image: &Image, wanted: Wanted) -> Result<Pixels, PictureError> {
    let format = match image.format {
        ImageFormat::Png => image::ImageFormat::Png,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Gif => image::ImageFormat::Gif,
        ImageFormat::Webp => image::ImageFormat::WebP,
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODING_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(&image.bytes), format);
    reader.limits(limits.clone());
    let damaged = |_| PictureError::Damaged;
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let is_small =
        width.max(height) <= SIDE_PIXELS_MAX && u64::from(width) * u64::from(height) <= PIXELS_MAX;
    if !is_small {
        return Err(PictureError::TooLarge { width, height });
    }
    // Cameras write how they were held, and turn nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if wanted == Wanted::Size {
        let (width, height) = upright(width, height, orientation);
        let (width, height) = shown(width, height).unwrap_or((width, height));
        return Pixels::sized(width, height).ok_or(PictureError::Refused);
    }
    decoder.set_limits(limits).map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    if let Some((width, height)) = shown(picture.width(), picture.height()) {
        picture = picture.thumbnail_exact(width, height);
    }
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    Pixels::new(width, height, &on_white(picture)).ok_or(PictureError::Refused)
}

/// The size it is shown in, where that is smaller.
fn shown(width: u32, height: u32) -> Option<(u32, u32)> {
    if u64::from(width) * u64::from(height) <= SHOWN_PIXELS_MAX {
        return None;
    }
    // The smallest whole number that both sides are divided by, in 256ths.
    let fits = |by: &u64| {
        let side = |side: u32| u64::from(side) * 256 / by;
        side(width) * side(height) <= SHOWN_PIXELS_MAX
    };
    let by = (257..).find(fits)?;
    let side = |side: u32| u32::try_from(u64::from(side) * 256 / by).unwrap_or(side).max(1);
    Some((side(width), side(height)))
}

/// Width and height when it is held upright.
fn upright(width: u32, height: u32, orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// Red, green and blue. What can be seen through is laid on white, as on a page: black letters on
/// nothing would be black on black otherwise.
fn on_white(picture: DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let blend = |[red, green, blue, alpha]: [u8; 4]| {
        let alpha = u16::from(alpha);
        let over = |colour: u8| (u16::from(colour) * alpha + 255 * (255 - alpha) + 127) / 255;
        [red, green, blue].map(|colour| u8::try_from(over(colour)).unwrap_or(u8::MAX))
    };
    picture.into_rgba8().pixels().flat_map(|pixel| blend(pixel.0)).collect()
}

/// Names pictures among the tokens of this process, so that those before and after a picture are
/// remembered with it.
#[derive(Debug, Default)]
pub(crate) struct Names(RandomState);

impl Names {
    /// Numbers that are no tokens, the same for the same file and others for others. Nobody outside
    /// can know which, so nobody can make a file that has those of another.
    pub(crate) fn of(&self, image: &Image, tokens: usize) -> Vec<Token> {
        let file = self.0.hash_one(&image.bytes);
        let name = |n: usize| {
            let bits = self.0.hash_one((file, n)) >> 33;
            -1 - Token::try_from(bits).expect("31 bits")
        };
        (0..tokens).map(name).collect()
    }
}

/// A picture on its way into the context.
pub(crate) struct Picture {
    chunk: Chunk,
    is_read_whole: bool,
    is_asked_for: AtomicBool,
    /// None when it could not be computed.
    vectors: OnceLock<Option<Vec<f32>>>,
}

impl Picture {
    pub(crate) fn new(chunk: Chunk, projector: &Projector) -> Self {
        Self {
            is_read_whole: projector.is_read_whole(&chunk),
            chunk,
            is_asked_for: AtomicBool::new(false),
            vectors: OnceLock::new(),
        }
    }

    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Whether all its tokens must be read in one step.
    pub(crate) fn is_read_whole(&self) -> bool {
        self.is_read_whole
    }

    /// Whether this is the first time that somebody asks for it.
    pub(crate) fn ask(&self) -> bool {
        !self.is_asked_for.swap(true, Ordering::SeqCst)
    }

    /// Takes back that it was asked for.
    pub(crate) fn forget_asking(&self) {
        self.is_asked_for.store(false, Ordering::SeqCst);
    }

    /// Its vectors, when they were computed.
    pub(crate) fn vectors(&self) -> Option<Option<&[f32]>> {
        self.vectors.get().map(Option::as_deref)
    }

    pub(crate) fn compute(&self, projector: &Projector) {
        self.vectors.get_or_init(|| projector.compute(&self.chunk));
    }
}

/// Where a picture lies among the tokens of an input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    /// Its first token.
    pub at: usize,
    pub tokens: usize,
    /// By how much the position of what follows is higher than its own.
    pub positions: usize,
}

impl Span {
    pub(crate) fn end(&self) -> usize {
        self.at + self.tokens
    }
}

/// A picture of an input.
pub(crate) struct Placed {
    pub span: Span,
    /// None when it was read.
    pub picture: Option<Arc<Picture>>,
}

/// The position of the `index`th token of an input with these pictures: models that count in several
/// directions give a picture fewer positions than tokens. Inside a picture it is where that begins.
pub(crate) fn position(pictures: &[Placed], index: usize) -> usize {
    position_of(pictures.iter().map(|placed| placed.span), index)
}

fn position_of(spans: impl Iterator<Item = Span>, index: usize) -> usize {
    let mut position = index;
    for span in spans.take_while(|span| span.at < index) {
        let inside = index.min(span.end()) - span.at;
        let counted = if index < span.end() { 0 } else { span.positions };
        position = position - inside + counted;
    }
    position
}

/// The last place up to `index` that is not inside a picture: what is remembered of a picture is
/// used whole or not at all.
pub(crate) fn before_picture(pictures: &[Placed], index: usize) -> usize {
    let inside = |span: &Span| span.at < index && index < span.end();
    pictures.iter().map(|placed| placed.span).find(inside).map_or(index, |span| span.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(picture: &DynamicImage) -> Image {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        Image { format: ImageFormat::Png, bytes: bytes.into_inner() }
    }

    #[test]
    fn positions_count_what_a_picture_takes() {
        let spans = [
            Span { at: 3, tokens: 4, positions: 2 },
            Span { at: 7, tokens: 2, positions: 2 },
            Span { at: 20, tokens: 9, positions: 3 },
        ];
        let position = |index| position_of(spans.into_iter(), index);
        assert_eq!([0, 3, 5, 7, 9, 20, 21, 29, 30].map(position), [0, 3, 3, 5, 7, 18, 18, 21, 22]);
        let placed = spans.map(|span| Placed { span, picture: None });
        let before = |index| before_picture(&placed, index);
        assert_eq!([0, 3, 4, 6, 7, 8, 9, 28, 29].map(before), [0, 3, 3, 3, 7, 7, 9, 20, 29]);
    }

    #[test]
    fn a_name_is_no_token_and_belongs_to_one_file() {
        let names = Names::default();
        let a = png(&DynamicImage::new_rgb8(2, 2));
        let b = png(&DynamicImage::new_rgb8(2, 3));
        let of_a = names.of(&a, 64);
        assert!(of_a.iter().all(|token| *token < 0) && of_a.len() == 64);
        assert_eq!(of_a, names.of(&a, 64));
        assert_ne!(of_a, names.of(&b, 64));
        assert_ne!(of_a, Names::default().of(&a, 64));
    }

    #[test]
    fn what_can_be_seen_through_lies_on_white() {
        let mut picture = image::RgbaImage::new(3, 1);
        picture.put_pixel(0, 0, image::Rgba([0, 0, 0, 255]));
        picture.put_pixel(1, 0, image::Rgba([0, 0, 0, 0]));
        picture.put_pixel(2, 0, image::Rgba([100, 200, 0, 128]));
        let rgb = on_white(DynamicImage::ImageRgba8(picture));
        assert_eq!(rgb, [0, 0, 0, 255, 255, 255, 177, 227, 127]);
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let side = SIDE_PIXELS_MAX;
        let sized = |width, height| {
            pixels(&png(&DynamicImage::new_luma8(width, height)), Wanted::Size).is_ok()
        };
        assert_eq!(shown(2048, 2048), None);
        let (width, height) = shown(8192, 4096).unwrap();
        assert!(width * height <= 1 << 22 && width * height > 4_100_000 && width == 2 * height);
        assert!(sized(side, 1) && sized(1, side));
        assert!(!sized(side + 1, 1));
        let rows = u32::try_from(PIXELS_MAX / u64::from(side)).unwrap();
        // The head alone is changed: all bytes that such a picture has would take a while to make.
        let with_rows = |rows: u32| {
            let mut image = png(&DynamicImage::new_luma8(side, 1));
            image.bytes[20..24].copy_from_slice(&rows.to_be_bytes());
            let crc = crc32(&image.bytes[12..29]);
            image.bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            pixels(&image, Wanted::Size)
        };
        assert!(with_rows(rows).is_ok());
        let refused = with_rows(rows + 1).err().unwrap();
        assert!(matches!(refused, PictureError::TooLarge { .. }), "{refused}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
            })
        };
        !bytes.iter().fold(u32::MAX, step)
    }

    #[test]
    fn a_large_picture_is_made_smaller_and_many_are_refused() {
        let image = png(&DynamicImage::new_luma8(4096, 2048));
        let shown = pixels(&image, Wanted::Pixels).unwrap().count();
        assert!((4_100_000..=SHOWN_PIXELS_MAX).contains(&shown), "{shown}");
        assert_eq!(pixels(&image, Wanted::Size).unwrap().count(), shown);
        let image = png(&DynamicImage::new_luma8(2048, 2048));
        let measure = |n| all_pixels(vec![&image; n].into_iter(), Wanted::Size);
        assert_eq!(measure(8).unwrap().len(), 8);
        assert!(matches!(measure(9), Err((8, PictureError::TooLargeTogether))));
        let image = png(&DynamicImage::new_luma8(1, 1));
        let measure = |n| all_pixels(vec![&image; n].into_iter(), Wanted::Size);
        assert_eq!(measure(PICTURES_MAX).unwrap().len(), PICTURES_MAX);
        assert!(matches!(measure(PICTURES_MAX + 1), Err((PICTURES_MAX, PictureError::TooMany))));
    }

    #[test]
    fn garbage_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Webp] {
            let image = Image { format, bytes: vec![7; 100] };
            assert!(matches!(pixels(&image, Wanted::Pixels), Err(PictureError::Damaged)));
        }
        let mut cut = png(&DynamicImage::new_rgb8(64, 64));
        cut.bytes.truncate(60);
        assert!(matches!(pixels(&cut, Wanted::Pixels), Err(PictureError::Damaged)));
    }
}
