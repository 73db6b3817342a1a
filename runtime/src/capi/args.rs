//! Checks of arguments from C callers, as far as C allows.

use core::ffi::{CStr, c_char};

use super::status::{Done, Fail, Status};

fn null(name: &str) -> Fail {
    Fail::new(Status::Null, format_args!("`{name}` is NULL"))
}

/// Checks that `pointer` can be read or written as a `T`, as far as its address tells.
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

/// Checks that memory can hold `len` elements.
fn check_len<T>(len: usize, name: &str) -> Done {
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => {
            Err(Fail::argument(format_args!("`{name}`: a length of {len} is more than memory has")))
        }
    }
}

/// Reference to the object behind a pointer.
///
/// # Safety
/// If it is not NULL and aligned, it points to a `T` that lives for `'a`.
pub(super) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Done<&'a T> {
    check(pointer, name)?;
    // SAFETY: checked for NULL and alignment; the rest is the caller's promise.
    Ok(unsafe { &*pointer })
}

/// Slice of `len` elements that are only read. If `len` is 0, the pointer may be NULL.
///
/// # Safety
/// If this returns elements, they are there, and no one writes them during `'a`.
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
    // SAFETY: not NULL, aligned, of a length that memory can hold; the rest is the caller's
    // promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// Text of `len` bytes.
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

/// String that ends with a zero.
///
/// # Safety
/// If it is not NULL, it ends with a zero, and no one writes it during `'a`.
pub(super) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Done<&'a CStr> {
    check(pointer, name)?;
    // SAFETY: not NULL; the rest is the caller's promise.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// Name that ends with a zero; `None` for NULL.
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

/// Destination of one result. It is never read, and no reference to it is made.
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// # Safety
    /// If it is not NULL and aligned, a `T` may be written there while this lives.
    pub(super) unsafe fn new(pointer: *mut T, name: &str) -> Done<Self> {
        check(pointer, name)?;
        Ok(Out(pointer))
    }

    /// Destination that may be NULL, in which case nothing is written.
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

/// Destination of several results; NULL with a capacity of 0 queries their number.
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

    /// True if only the number is requested.
    pub(super) fn is_question(&self) -> bool {
        self.to.is_null()
    }

    /// Returns an error if more room is needed.
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

    /// Copies `from` to the start if it fits.
    pub(super) fn fill(&self, from: &[T]) -> Done {
        self.check(from.len())?;
        if !from.is_empty() {
            // SAFETY: `check` compared the length to the capacity, which `new`'s caller promised;
            // if the capacity isn't 0, `new` checked NULL and alignment. `from` is Teff's own
            // memory, to which no caller has a pointer for writing.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.to, from.len()) };
        }
        Ok(())
    }
}

/// C struct whose first field is its own size, so that it can grow. All its fields are numbers and
/// pointers, for which every bit pattern is valid.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize`, and every bit pattern is valid for it.
pub(super) unsafe trait CStruct: Copy {
    /// Name in C.
    const NAME: &'static str;
}

/// Returns an error if the size of a struct differs from this library's.
///
/// # Safety
/// If it is not NULL and aligned, it points to a `usize`.
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

/// Options of the caller, or the defaults for NULL.
///
/// # Safety
/// If it is not NULL, it points to a `T` of as many bytes as its first field says.
pub(super) unsafe fn options<T: CStruct + Default>(pointer: *const T, name: &str) -> Done<T> {
    if pointer.is_null() {
        return Ok(T::default());
    }
    // SAFETY: the caller's promise.
    unsafe { check_size(pointer, name)? };
    // SAFETY: not NULL, aligned, of the right size; every bit pattern is valid for it.
    Ok(unsafe { pointer.read() })
}

/// Destination of a struct that declares its size.
///
/// # Safety
/// If it is not NULL, it points to a `T` that may be written, whose first field is set.
pub(super) unsafe fn out_struct<T: CStruct>(pointer: *mut T, name: &str) -> Done<Out<T>> {
    // SAFETY: the caller's promise.
    unsafe {
        check_size(pointer.cast_const(), name)?;
        Out::new(pointer, name)
    }
}
