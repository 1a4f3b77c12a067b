use super::lanes::Lanes;

/// A place in memory that text is written to, one value after another.
///
/// Most writers store whole words and then advance by the bytes that count: a
/// store of fixed size is far cheaper than a copy of unknown length. So they
/// touch a few bytes more than they write, which whoever makes the cursor allows for.
///
/// Functions that are not inlined take it and give it back: one that borrows it would
/// have a loop keep it in memory rather than in a register.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    at: *mut u8,
    #[cfg(debug_assertions)]
    end: *mut u8,
}

/// A short text, stored in pieces of sixteen bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Affix {
    pieces: Vec<[u8; 16]>,
    length: usize,
}

impl Cursor {
    /// The most bytes that one number, date, time or timestamp touches; it writes
    /// at least sixteen less.
    pub const ROOM: usize = 64;

    /// A cursor at `at`.
    ///
    /// # Safety
    /// The `room` bytes from `at` on must be there to be written by nobody else
    /// while the cursor lives, and what is written to it must not touch more: a
    /// value up to [`ROOM`](Cursor::ROOM) bytes, an affix its width. (Builds with
    /// debug assertions, which the tests are, check each store.)
    #[inline(always)]
    pub unsafe fn new(at: *mut u8, room: usize) -> Self {
        let _ = room;
        Cursor {
            at,
            #[cfg(debug_assertions)]
            end: at.wrapping_add(room),
        }
    }

    /// Where the next byte goes.
    #[inline(always)]
    pub fn position(&self) -> *mut u8 {
        self.at
    }

    /// Writes the first `used` bytes (at most 8) of `word`, the least significant
    /// first. Touches 8.
    #[inline(always)]
    pub fn word(&mut self, word: u64, used: usize) {
        self.assert_room(8);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            self.at.cast::<[u8; 8]>().write(word.to_le_bytes());
            self.at = self.at.add(used.min(8));
        }
    }

    /// The same with at most 4. Touches 4.
    #[inline(always)]
    pub fn half_word(&mut self, word: u32, used: usize) {
        self.assert_room(4);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            self.at.cast::<[u8; 4]>().write(word.to_le_bytes());
            self.at = self.at.add(used.min(4));
        }
    }

    /// Writes one byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.assert_room(1);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            self.at.write(byte);
            self.at = self.at.add(1);
        }
    }

    /// Writes a byte, or nothing. Touches 1.
    #[inline(always)]
    pub fn push_if(&mut self, byte: u8, wanted: bool) {
        self.assert_room(1);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            self.at.write(byte);
            self.at = self.at.add(usize::from(wanted));
        }
    }

    /// Writes the first `used` of sixteen bytes. Touches 16.
    #[inline(always)]
    pub fn lanes(&mut self, lanes: Lanes, used: usize) {
        self.assert_room(16);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            lanes.store(self.at);
            self.at = self.at.add(used.min(16));
        }
    }

    /// Writes a short text. Touches its bytes alone.
    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.assert_room(bytes.len());
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            copy_short(bytes, self.at);
            self.at = self.at.add(bytes.len());
        }
    }

    /// Writes a text of sixteen bytes or more; a shorter one not. Touches its bytes
    /// alone.
    #[inline(always)]
    pub fn long(&mut self, bytes: &[u8]) -> bool {
        let Some(last) = bytes.last_chunk::<16>() else { return false };
        self.assert_room(bytes.len());
        let (pieces, _) = bytes.as_chunks::<16>();
        // SAFETY: the maker of the cursor has room for what is written to it. The
        // last sixteen bytes may overlap those before.
        unsafe {
            let end = self.at.add(bytes.len());
            for piece in pieces {
                Lanes::load(piece).store(self.at);
                self.at = self.at.add(16);
            }
            Lanes::load(last).store(end.sub(16));
            self.at = end;
        }
        true
    }

    /// Writes the first `used` bytes of pieces of sixteen, which must be at most all.
    /// Touches all pieces.
    #[inline(always)]
    pub fn pieces<const N: usize>(&mut self, pieces: [Lanes; N], used: usize) {
        self.assert_room(16 * N);
        debug_assert!(used <= 16 * N);
        // SAFETY: the maker of the cursor has room for what is written to it.
        unsafe {
            for (index, piece) in pieces.into_iter().enumerate() {
                piece.store(self.at.add(16 * index));
            }
            self.at = self.at.add(used);
        }
    }

    /// Writes an affix. Touches its [width](Affix::width).
    pub fn affix(&mut self, affix: &Affix) {
        self.assert_room(affix.width());
        let start = self.at;
        for piece in &affix.pieces {
            self.lanes(Lanes::load(piece), 16);
        }
        self.at = start.wrapping_add(affix.length);
    }

    #[inline(always)]
    fn assert_room(&self, bytes: usize) {
        let _ = bytes;
        #[cfg(debug_assertions)]
        assert!(bytes <= self.end as usize - self.at as usize, "a value is written where no room was made for it");
    }
}

impl Affix {
    /// The affix that is `text`.
    pub fn new(text: &[u8]) -> Self {
        let pieces = text.chunks(16).map(|chunk| {
            let mut piece = [0; 16];
            piece[..chunk.len()].copy_from_slice(chunk);
            piece
        });
        Affix { pieces: pieces.collect(), length: text.len() }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// All of it.
    pub fn text(&self) -> &[u8] {
        self.pieces.as_flattened().get(..self.length).unwrap_or_default()
    }

    /// The piece, if there is one alone.
    pub fn only_piece(&self) -> Option<&[u8; 16]> {
        match self.pieces.as_slice() {
            [piece] => Some(piece),
            _ => None,
        }
    }

    /// Number of pieces.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The first `N` pieces of sixteen bytes; zeros where there are none.
    #[inline(always)]
    pub fn lanes<const N: usize>(&self) -> [Lanes; N] {
        std::array::from_fn(|index| Lanes::load(self.pieces.get(index).unwrap_or(&[0; 16])))
    }

    /// Bytes that writing it touches.
    pub fn width(&self) -> usize {
        16 * self.pieces.len()
    }
}

/// Copies bytes. (A copy of unknown length is a call; a few of fixed size that
/// overlap are not.)
///
/// # Safety
/// As many bytes as there are must be writable at `to`, and must not be the same.
#[inline(always)]
pub(super) unsafe fn copy_short(bytes: &[u8], to: *mut u8) {
    let (from, count) = (bytes.as_ptr(), bytes.len());
    // SAFETY: every branch copies bytes within `count` to the same place after
    // `to`, and together all of them.
    unsafe {
        if count >= 16 {
            let mut at = 0;
            while at + 16 < count {
                copy::<16>(from, to, at);
                at += 16;
            }
            copy::<16>(from, to, count - 16);
        } else if count >= 8 {
            copy::<8>(from, to, 0);
            copy::<8>(from, to, count - 8);
        } else if count >= 4 {
            copy::<4>(from, to, 0);
            copy::<4>(from, to, count - 4);
        } else if count > 0 {
            copy::<1>(from, to, 0);
            copy::<1>(from, to, count / 2);
            copy::<1>(from, to, count - 1);
        }
    }
}

/// Copies `N` bytes at `at`.
///
/// # Safety
/// `at..at + N` must lie within what both pointers may be used for, which must
/// not overlap.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise.
    unsafe { to.add(at).cast::<[u8; N]>().write(from.add(at).cast::<[u8; N]>().read()) }
}
