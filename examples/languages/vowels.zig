//! A plug-in in Zig without an SDK: the part of ferrule.h that it needs, written out by hand. The numbers R1, R2 … are
//! the rules of that file.

const std = @import("std");

/// The call frame, struct ferrule_call. A host may know a longer one: never copy it, and never take its size from here.
const Call = extern struct {
    size: usize,
    state: ?*anyopaque,
    in: [*]const u8,
    in_len: usize,
    out: ?[*]u8,
    out_len: usize,
    out_cap: usize,
    release: ?*const fn (*Call) callconv(.c) void,
    host: *const anyopaque,
    cancel: ?*const u32,
};

// The statuses (R10) that it returns.
const ok: i32 = 0;
const cancelled: i32 = 4;
const no_memory: i32 = 6;

// R1: the text itself is exported, not a pointer to it. A literal's own NUL closes it, as the empty text at its end.
export const ferrule_manifest = "ferrule=1\x00name=vowels\x00version=1.0.0\x00threads=concurrent\x00".*;

export const ferrule_meta_fn_count_vowels = "doc=Counts the vowels of a text.\x00".*;

export fn ferrule_fn_count_vowels(call: *Call) i32 {
    const text = call.in[0..call.in_len];
    var n: usize = 0;
    for (text, 0..) |c, i| {
        // R17: a long text takes longer than the host may want to wait.
        if (i % 65536 == 0 and isCancelled(call)) return cancelled;
        n += switch (c) {
            'a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U' => 1,
            else => 0,
        };
    }
    var digits: [20]u8 = undefined;
    return reply(call, std.fmt.bufPrint(&digits, "{d}", .{n}) catch unreachable);
}

fn isCancelled(call: *const Call) bool {
    return if (call.cancel) |word| @atomicLoad(u32, word, .acquire) != 0 else false;
}

/// Replies with a copy (R8): in the host's room where it fits there, else in memory that release gives back (R9).
fn reply(call: *Call, bytes: []const u8) i32 {
    if (bytes.len <= call.out_cap) {
        @memcpy(call.out.?[0..bytes.len], bytes);
    } else {
        const own = allocator.dupe(u8, bytes) catch return no_memory;
        call.out = own.ptr;
        call.release = release;
    }
    call.out_len = bytes.len;
    return ok;
}

fn release(call: *Call) callconv(.c) void {
    allocator.free(call.out.?[0..call.out_len]);
}

const allocator = std.heap.page_allocator;
