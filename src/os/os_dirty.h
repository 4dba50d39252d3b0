/* Which pages of the heap were written, as the kernel's page tables tell: userfaultfd's asynchronous write protection
 * and PAGEMAP_SCAN (Linux 6.7).  A store to a protected page waits for nobody, and system calls that write to one
 * succeed.  docs/dirty-pages.md has the costs and the limits.
 *
 * A watched OS page is one of
 *
 *   EMPTY    no memory stands behind it (never touched, or released), or the kernel's page of zeros: reads as zero, or
 *            as the file of which it is a private mapping
 *   WRITTEN  it has memory, and may have been written since it was protected last, or never was protected
 *   CLEAN    it has memory, and was not written since it was protected
 *
 *   EMPTY -> WRITTEN    a write, by the program or by the kernel for it; with huge pages, to any page of the same one;
 *                       a read, where it shows a file, or where the kernel has no page of zeros to show
 *   WRITTEN -> CLEAN    protected by os_dirty_protect, or by an os_dirty_scan that has reported it
 *   CLEAN -> WRITTEN    a write; being populated (os_populate); os_dirty_allow, os_dirty_join
 *   any -> EMPTY        released (os_release), unmapped; made a guard, though a guard may be reported; of a huge page
 *                       that the kernel takes apart for want of memory, what holds only zeros
 *
 * and a scan reports the WRITTEN ones: so what it leaves out holds what it held when it was protected, or zeros, or what
 * the file holds.  What is written while a scan protects is reported by that scan, or by the next one; in the first case
 * a read that follows the scan sees it.
 *
 * Huge pages are protected and reported whole.  The first write to a protected one splits it: the kernel maps the same
 * memory by small pages, one of which is WRITTEN, and never joins them again by itself.
 *
 * The kernel's objects are two file descriptors, which the program may close, or replace by others, unknowingly.  No
 * answer is wrong then, it is -errno: a scan of memory that is not watched fails, and os_dirty_check finds descriptors
 * that are not ours.  Nothing is known of any page from then on.
 *
 * Scans and protections may run in several threads at once; the rest only while nothing else here runs. */
#ifndef MIDDEN_OS_OS_DIRTY_H
#define MIDDEN_OS_OS_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/os.h"

/* For a process that may call os_dirty_open later, when it has several threads: then that would take some milliseconds, which
 * this spares it while it has one.  Opens nothing. */
void os_dirty_prepare(void);

/* Opens the two, and tries on a page of its own whether writes are really told from their absence.  0, also where it
 * is open; -ENOSYS where the system cannot do it; -EPERM where it may not; -errno. */
int os_dirty_open(void);

/* In ns, what the first write to a protected page takes here: half a microsecond where the processor walks the page tables, twenty
 * where a hypervisor keeps a copy of them.  Tried on a page of its own, with a descriptor of its own: any thread may ask, at any
 * time.  Or -errno, as for os_dirty_open. */
int64_t os_dirty_write_ns(void);

/* Closes what is still ours of the two.  Nothing is watched from then on. */
void os_dirty_close(void);

/* Whether the two are still what os_dirty_open has made, in this process: 0 or -EBADF.  Called once for each cycle. */
int os_dirty_check(void);

/* For the child of a fork, where nothing is watched: the descriptors that it has inherited lead to its parent's
 * memory.  Same as os_dirty_close, and os_dirty_prepare where that was called; os_dirty_open and os_dirty_watch begin anew. */
void os_dirty_forked(void);

/* Watches a range of whole pages: private memory, which need not be accessible yet.  Its pages stay as they are: EMPTY or
 * WRITTEN.  May be called again for what is watched. */
int os_dirty_watch(void *start, size_t bytes);

/* Makes every WRITTEN page of a range CLEAN. */
int os_dirty_protect(void *start, size_t bytes);

/* Makes every CLEAN page of a range WRITTEN, for a tenth of what the first write to each would take.  All processors are interrupted:
 * for less than a hundred kilobytes the writes are cheaper.  0 or -errno. */
int os_dirty_allow(void *start, size_t bytes);

/* Makes every page of a range WRITTEN that has memory, and one huge page of each whole huge page's worth of them where
 * the system agrees: it copies them, and wants memory behind each.  0 where all of them are huge now, be it that one whose
 * pages were EMPTY is the kernel's huge page of zeros, and EMPTY still; else -errno, some may be.  The program's mmap
 * waits for it: better in pieces. */
int os_dirty_join(void *start, size_t bytes);

/* Stores the WRITTEN pages of `rest` in written[0 .. *count), by address, as runs that do not touch each other; and
 * with `protect` makes them CLEAN as it reads them.  Stops where the array is full: rest->start is where the next call
 * goes on, rest->end where all is done.  A run may be cut there, and huge pages are split where a protecting `rest`
 * cuts them.
 *
 * Unmapped parts of the range are passed over; -EPERM where mapped parts are not watched.  After an error nothing is
 * known of the range's pages: some may be CLEAN that nobody heard of. */
int os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count);

#endif
