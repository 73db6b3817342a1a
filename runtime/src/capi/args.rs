//! What callers hand over: checked as far as C lets anyone check.

use core::ffi::{CStr, c_char};

use super::status::{Done, Fail, Status};

fn null(name: &str) -> Fail {
    Fail::new(Status::Null, format_args!("`{name}` is NULL"))
}

/// Whether `pointer` may be read or written as a `T`, as far as its number says.
fn check<T>(pointer: *const T, name: &str) -> Done {
    if pointer.is_null() {
        return Err(null(name));
    }
    if !pointer.is_aligned() {
        let align = align_of::<T>();
        return Err(Fail::argument(format_args!("`{name}` is not at a multiple of {align} bytes")));
    }
    Ok(())
}

/// Whether memory can have `len` elements.
fn check_len<T>(len: usize, name: &str) -> Done {
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => {
            Err(Fail::argument(format_args!("`{name}`: a length of {len} is more than memory has")))
        }
    }
}

/// The object behind a pointer.
///
/// # Safety
/// Where it is not NULL and aligned, it points to a `T` that lives for `'a`.
pub(super) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Done<&'a T> {
    check(pointer, name)?;
    // SAFETY: checked for NULL and alignment; the rest is the caller's promise.
    Ok(unsafe { &*pointer })
}

/// `len` elements that are only read. Where `len` is 0, the pointer may be NULL.
///
/// # Safety
/// Where this gives elements, they are there, and nobody writes them during `'a`.
pub(super) unsafe fn slice<'a, T: Copy>(
    pointer: *const T,
    len: usize,
    name: &str,
) -> Done<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    check_len::<T>(len, name)?;
    // SAFETY: not NULL, aligned, of a length that memory can have; the rest is the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// A text of `len` bytes.
///
/// # Safety
/// As [`slice`].
pub(super) unsafe fn text<'a>(pointer: *const c_char, len: usize, name: &str) -> Done<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(pointer.cast::<u8>(), len, name)? };
    core::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        Fail::new(Status::Utf8, format_args!("`{name}` is not UTF-8 from its byte {at} on"))
    })
}

/// A string that ends with a zero.
///
/// # Safety
/// Where it is not NULL, it ends with a zero, and nobody writes it during `'a`.
pub(super) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Done<&'a CStr> {
    check(pointer, name)?;
    // SAFETY: not NULL; the rest is the caller's promise.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// A name that ends with a zero; NULL is none.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn name<'a>(pointer: *const c_char, name: &str) -> Done<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { string(pointer, name)? }.to_str();
    let text = text.map_err(|_| Fail::new(Status::Utf8, format_args!("`{name}` is not UTF-8")))?;
    Ok(Some(text))
}

/// A place for one result. Nothing is read from it, and no reference to it is made.
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// # Safety
    /// Where it is not NULL and aligned, a `T` may be written there while this lives.
    pub(super) unsafe fn new(pointer: *mut T, name: &str) -> Done<Self> {
        check(pointer, name)?;
        Ok(Out(pointer))
    }

    /// A place that may be NULL: then nothing is written.
    ///
    /// # Safety
    /// As [`Out::new`].
    pub(super) unsafe fn optional(pointer: *mut T, name: &str) -> Done<Option<Self>> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { Out::new(pointer, name).map(Some) }
    }

    pub(super) fn set(&self, value: T) {
        // SAFETY: `new` checked NULL and alignment; its caller promised the rest.
        unsafe { self.0.write(value) };
    }
}

/// A place for several results: NULL with a capacity of 0 asks only for their number.
pub(super) struct Buffer<T> {
    to: *mut T,
    capacity: usize,
    name: &'static str,
}

impl<T: Copy> Buffer<T> {
    /// # Safety
    /// `capacity` elements may be written there while this lives.
    pub(super) unsafe fn new(to: *mut T, capacity: usize, name: &'static str) -> Done<Self> {
        if capacity > 0 || !to.is_null() {
            check(to, name)?;
        }
        check_len::<T>(capacity, name)?;
        Ok(Buffer { to, capacity, name })
    }

    /// Whether only the number is asked for.
    pub(super) fn is_question(&self) -> bool {
        self.to.is_null()
    }

    /// Refuses what needs more room.
    pub(super) fn check(&self, needed: usize) -> Done {
        if needed <= self.capacity {
            return Ok(());
        }
        let Buffer { capacity, name, .. } = self;
        Err(Fail::new(
            Status::Buffer,
            format_args!("`{name}` has room for {capacity}, but needs room for {needed}"),
        ))
    }

    /// Copies `from` to the start, where it fits.
    pub(super) fn fill(&self, from: &[T]) -> Done {
        self.check(from.len())?;
        if !from.is_empty() {
            // SAFETY: `check` compared the length to the capacity, which `new`'s caller promised;
            // where the capacity isn't 0, `new` checked NULL and alignment. `from` is memory of
            // Teff's own, of which no caller has a pointer for writing.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.to, from.len()) };
        }
        Ok(())
    }
}

/// A struct of C whose first field is its own size, so that it can grow. All its fields are numbers
/// and pointers, for which every bit pattern is a value.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize`, and every bit pattern is a value of it.
pub(super) unsafe trait CStruct: Copy {
    /// Its name in C.
    const NAME: &'static str;
}

/// Refuses a struct of another size than this library's.
///
/// # Safety
/// Where it is not NULL and aligned, it points to a `usize`.
unsafe fn check_size<T: CStruct>(pointer: *const T, name: &str) -> Done {
    check(pointer, name)?;
    // SAFETY: not NULL and aligned; the trait's promise is that a `usize` comes first.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size == size_of::<T>() {
        return Ok(());
    }
    Err(Fail::argument(format_args!(
        "`{name}->size` is {size}, but this library's {} has {} bytes: set it with \
         sizeof, and use the header of this library's version",
        T::NAME,
        size_of::<T>()
    )))
}

/// Options: those of the caller, or the defaults for NULL.
///
/// # Safety
/// Where it is not NULL, it points to a `T` of as many bytes as its first field says.
pub(super) unsafe fn options<T: CStruct + Default>(pointer: *const T, name: &str) -> Done<T> {
    if pointer.is_null() {
        return Ok(T::default());
    }
    // SAFETY: the caller's promise.
    unsafe { check_size(pointer, name)? };
    // SAFETY: not NULL, aligned, of the right size; every bit pattern is a value of it.
    Ok(unsafe { pointer.read() })
}

/// A place for a struct that says its size.
///
/// # Safety
/// Where it is not NULL, it points to a `T` that may be written, whose first field is set.
pub(super) unsafe fn out_struct<T: CStruct>(pointer: *mut T, name: &str) -> Done<Out<T>> {
    // SAFETY: the caller's promise.
    unsafe {
        check_size(pointer.cast_const(), name)?;
        Out::new(pointer, name)
    }
}
