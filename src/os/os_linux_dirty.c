/* Linux: which pages were written.
 *
 * A mapping registered with the userfaultfd has a bit in each page table entry, "write-protected for userfaultfd"; in
 * asynchronous mode the first write clears it and goes on, and nobody is told.  PAGEMAP_SCAN finds the entries without
 * the bit and can set it in the same step, under the page table's lock.
 *
 * It is asked for entries with memory behind them, the page of zeros left out.  To be asked for written ones alone
 * would do otherwise, by kernel: empty entries count as written then, or only where there is a page table, and
 * protecting puts markers into them, after which no huge page can come to stand there.  But the kernel has a loop of its
 * own for that question, which takes less than half the time: so what does not protect asks it first, and then once more
 * of the runs that it names.  Not so before 6.9: there that loop takes some entries of pages in swap space, or on their way
 * to another place in memory, for protected ones.  It is never asked without a place for the answer: kernels up to 6.17 could
 * crash of that. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/check.h"
#include "os/os_dirty.h"
#include "os/os_linux.h"

/* ---- kernel constants that older headers lack ---- */

enum {
  ADVICE_COLLAPSE = 25,                /* MADV_COLLAPSE, Linux 6.1 */
  OPEN_USER_MODE_ONLY = 1,             /* UFFD_USER_MODE_ONLY, Linux 5.11: what an unprivileged process may have */
  FEATURE_WP_UNPOPULATED = 1 << 13,    /* UFFD_FEATURE_WP_UNPOPULATED, Linux 6.4; PAGEMAP_SCAN insists on it */
  FEATURE_WP_ASYNC = 1 << 15,          /* UFFD_FEATURE_WP_ASYNC, Linux 6.7 */
  SCAN_PROTECTS = 1 << 0,              /* PM_SCAN_WP_MATCHING */
  SCAN_FAILS_WHERE_UNWATCHED = 1 << 1, /* PM_SCAN_CHECK_WPASYNC */
  PAGE_WATCHED = 1 << 0,               /* PAGE_IS_WPALLOWED */
  PAGE_WRITTEN = 1 << 1,               /* PAGE_IS_WRITTEN */
  PAGE_PRESENT = 1 << 3,               /* PAGE_IS_PRESENT */
  PAGE_SWAPPED = 1 << 4,               /* PAGE_IS_SWAPPED; guards by advice count as such */
  PAGE_OF_ZEROS = 1 << 5,              /* PAGE_IS_PFNZERO */
};

struct scan_region { /* struct page_region */
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct scan_request { /* struct pm_scan_arg */
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end; /* the kernel's answer: where it stopped */
  uint64_t regions;
  uint64_t region_count;
  uint64_t max_pages;
  uint64_t inverted;
  uint64_t all_of;   /* a page counts that has all of these, `inverted` ones the other way round */
  uint64_t any_of;   /* and at least one of these */
  uint64_t returned; /* runs are of pages that agree in these */
};

#define SCAN_PAGEMAP _IOWR('f', 16, struct scan_request) /* PAGEMAP_SCAN, Linux 6.7 */

#ifndef SYS_userfaultfd
#define SYS_userfaultfd __NR_userfaultfd
#endif

/* ---- the descriptors ---- */

/* Numbers below stay the program's: many a one counts on which it gets next. */
enum { LEAST_NUMBER = 960 };

struct descriptor {
  int number; /* -1 for none */
  dev_t device;
  ino_t inode;
};

/* Changed by prepare, open, close and forked. */
static struct {
  struct descriptor tracker; /* the userfaultfd */
  struct descriptor pagemap; /* /proc/self/pagemap */
  pid_t process;             /* who opened them */
  bool is_prepared;          /* for them to be opened later */
  bool may_ask_roughly;      /* the kernel answers scan_roughly right */
} dirty = {.tracker.number = -1, .pagemap.number = -1};

static bool is_ours(const struct descriptor *descriptor) {
  struct stat status;
  return descriptor->number >= 0 && fstat(descriptor->number, &status) == 0 && status.st_dev == descriptor->device &&
         status.st_ino == descriptor->inode;
}

static void forget(struct descriptor *descriptor) {
  if (is_ours(descriptor)) syscall(SYS_close, descriptor->number);
  descriptor->number = -1;
}

/* Takes what a system call has opened, under a high number if there is one to be had. */
static int adopt(struct descriptor *descriptor, long opened) {
  if (opened < 0) return -errno;
  int high = fcntl((int)opened, F_DUPFD_CLOEXEC, LEAST_NUMBER);
  if (high >= 0) syscall(SYS_close, opened);
  descriptor->number = high >= 0 ? high : (int)opened;
  struct stat status;
  if (fstat(descriptor->number, &status) != 0) return -errno;
  descriptor->device = status.st_dev;
  descriptor->inode = status.st_ino;
  return 0;
}

/* The table of descriptors grows to that number: at once while the process has one thread, but where threads share it only after
 * all processors have taken their turn in the kernel (an RCU grace period), 3 to 15 ms. */
void os_dirty_prepare(void) {
  dirty.is_prepared = true;
  int low = eventfd(0, EFD_CLOEXEC);
  if (low < 0) return;
  int high = fcntl(low, F_DUPFD_CLOEXEC, LEAST_NUMBER);
  if (high >= 0) syscall(SYS_close, high);
  syscall(SYS_close, low);
}

static int open_tracker(struct descriptor *tracker) {
  int error = adopt(tracker, syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | OPEN_USER_MODE_ONLY));
  if (error != 0) return error == -EINVAL ? -ENOSYS : error; /* kernels before 5.11 do not know the flag */
  struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC};
  if (ioctl(tracker->number, UFFDIO_API, &api) == 0) return 0;
  return errno == EINVAL ? -ENOSYS : -errno;
}

/* It is not there in a bare chroot; and root's alone where the process has given up other privileges. */
static int open_pagemap(void) {
  int error = adopt(&dirty.pagemap, syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  return error == -ENOENT ? -ENOSYS : error == -EACCES ? -EPERM : error;
}

/* ---- scanning ---- */

enum { SCAN_BATCH = 128 };

/* The kernel holds the lock of the whole address space during a call: the program's mmap and mprotect wait for it. */
#define SLICE_LEAST_BYTES ((size_t)32 << 20)

/* Where the slice ends that holds an address: never within a huge page. */
static uintptr_t slice_end(uintptr_t address) {
  size_t slice_bytes = max_size(SLICE_LEAST_BYTES, os_huge_page_bytes());
  return round_down(address, slice_bytes) + slice_bytes;
}

/* One system call.  The number of regions, or -errno. */
static int ask(struct scan_request *request, struct os_range *rest, struct scan_region *regions, size_t capacity) {
  request->size = sizeof *request;
  request->flags |= SCAN_FAILS_WHERE_UNWATCHED;
  request->start = rest->start;
  request->end = min_size(rest->end, slice_end(rest->start));
  request->regions = (uintptr_t)regions;
  request->region_count = min_size(capacity, SCAN_BATCH);
  request->returned = PAGE_WRITTEN;
  int found = ioctl(dirty.pagemap.number, SCAN_PAGEMAP, request);
  if (found < 0) return -errno;
  bool is_sane = request->walk_end <= request->end && (request->walk_end > rest->start || found > 0);
  if (!is_sane) return -EIO;
  rest->start = request->walk_end;
  return found;
}

static int scan_some(struct os_range *rest, bool protect, struct scan_region *regions, size_t capacity) {
  struct scan_request request = {
      .flags = protect ? SCAN_PROTECTS : 0,
      .inverted = PAGE_OF_ZEROS,
      .all_of = PAGE_WATCHED | PAGE_WRITTEN | PAGE_OF_ZEROS,
      .any_of = PAGE_PRESENT | PAGE_SWAPPED,
  };
  return ask(&request, rest, regions, capacity);
}

/* WRITTEN ones, and some that are EMPTY. */
static int scan_roughly(struct os_range *rest, struct scan_region *regions) {
  return ask(&(struct scan_request){.all_of = PAGE_WRITTEN}, rest, regions, SCAN_BATCH);
}

/* Joins what two system calls have cut. */
static size_t append(struct os_range *ranges, size_t count, const struct scan_region *region) {
  if (count != 0 && ranges[count - 1].end == region->start) {
    ranges[count - 1].end = region->end;
    return count;
  }
  ranges[count] = (struct os_range){region->start, region->end};
  return count + 1;
}

static int scan_exactly(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count) {
  struct scan_region regions[SCAN_BATCH];
  while (rest->start < rest->end && *count < capacity) {
    int found = scan_some(rest, protect, regions, capacity - *count);
    if (found < 0) return found;
    for (int i = 0; i < found; i++) *count = append(written, *count, &regions[i]);
  }
  return 0;
}

/* To ask once of so many pages takes as long as to ask of one alone. */
enum { PAGES_A_CALL = 256 };

static int scan_in_two_steps(struct os_range *rest, struct os_range *written, size_t capacity, size_t *count) {
  struct scan_region roughly[SCAN_BATCH];
  while (rest->start < rest->end && *count < capacity) {
    struct os_range all = *rest;
    int found = scan_roughly(&all, roughly), error = 0;
    if (found < 0) return found;
    if ((size_t)found > (all.start - rest->start) / os_page_bytes() / PAGES_A_CALL) {
      roughly[0] = (struct scan_region){.start = rest->start, .end = all.start};
      found = 1;
    }
    for (int i = 0; i < found && *count < capacity && error == 0; i++) {
      *rest = (struct os_range){roughly[i].start, roughly[i].end};
      error = scan_exactly(rest, false, written, capacity, count);
    }
    if (error != 0) return error;
    rest->end = all.end;
    if (*count < capacity) rest->start = all.start;
  }
  return 0;
}

int os_dirty_scan(struct os_range *rest, bool protect, struct os_range *written, size_t capacity, size_t *count) {
  ASSERT(is_aligned(rest->start | rest->end, os_page_bytes()) && rest->start <= rest->end && capacity != 0);
  *count = 0;
  if (os_linux_fault_due()) return -ENOMEM;
  if (protect || !dirty.may_ask_roughly) return scan_exactly(rest, protect, written, capacity, count);
  return scan_in_two_steps(rest, written, capacity, count);
}

int os_dirty_protect(void *start, size_t bytes) {
  struct scan_region regions[SCAN_BATCH];
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + bytes};
  ASSERT(is_aligned(rest.start | rest.end, os_page_bytes()));
  if (os_linux_fault_due()) return -ENOMEM;
  while (rest.start < rest.end) {
    int found = scan_some(&rest, true, regions, SCAN_BATCH);
    if (found < 0) return found;
  }
  return 0;
}

/* ---- what goes through the userfaultfd ---- */

static int request(const struct descriptor *tracker, unsigned long code, void *argument) {
  if (os_linux_fault_due()) return -ENOMEM;
  return ioctl(tracker->number, code, argument) == 0 ? 0 : -errno;
}

static int watch(const struct descriptor *tracker, void *start, size_t bytes) {
  struct uffdio_register range = {.range = {(uintptr_t)start, bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
  return request(tracker, UFFDIO_REGISTER, &range);
}

static int set_protection(const struct descriptor *tracker, void *start, size_t bytes, uint64_t mode) {
  struct uffdio_writeprotect range = {.range = {(uintptr_t)start, bytes}, .mode = mode};
  return request(tracker, UFFDIO_WRITEPROTECT, &range);
}

int os_dirty_watch(void *start, size_t bytes) { return watch(&dirty.tracker, start, bytes); }

int os_dirty_allow(void *start, size_t bytes) { return set_protection(&dirty.tracker, start, bytes, 0); }

/* The kernel joins no page that is protected. */
int os_dirty_join(void *start, size_t bytes) {
  int error = os_dirty_allow(start, bytes);
  if (error != 0) return error;
  return madvise(start, bytes, ADVICE_COLLAPSE) == 0 ? 0 : -errno;
}

/* ---- start ---- */

static bool is_only_written(char *start, size_t bytes, bool protect, const char *page) {
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + bytes};
  struct os_range written[2];
  size_t count;
  if (os_dirty_scan(&rest, protect, written, 2, &count) != 0) return false;
  if (page == NULL) return count == 0;
  return count == 1 && written[0].start == (uintptr_t)page && written[0].end == (uintptr_t)page + os_page_bytes();
}

/* Of four pages the first stays empty, the others are written, one of them again once it is protected. */
static bool tells_writes(char *pages, size_t page_bytes) {
  volatile char *bytes = pages;
  size_t all = 4 * page_bytes;
  if (os_dirty_watch(pages, all) != 0) return false;
  for (size_t i = 1; i < 4; i++) bytes[i * page_bytes] = 1;
  if (os_dirty_protect(pages, all) != 0 || !is_only_written(pages, all, false, NULL)) return false;
  bytes[2 * page_bytes] = 2;
  return is_only_written(pages, all, false, pages + 2 * page_bytes) &&
         is_only_written(pages, all, true, pages + 2 * page_bytes) && is_only_written(pages, all, false, NULL);
}

/* Emulators let calls pass that they do not know, and containers filter them.  But the program may have closed the descriptors
 * in between. */
static int probe(void) {
  size_t page_bytes = os_page_bytes();
  char *pages = os_map(4 * page_bytes);
  if (pages == NULL) return -ENOMEM;
  bool works = tells_writes(pages, page_bytes);
  os_unmap(pages, 4 * page_bytes);
  if (works) return 0;
  return os_dirty_check() == 0 ? -ENOSYS : -EBADF;
}

static bool is_kernel_at_least(unsigned long major, unsigned long minor) {
  struct utsname name;
  char *end;
  if (uname(&name) != 0) return false;
  unsigned long has_major = strtoul(name.release, &end, 10);
  unsigned long has_minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
  return has_major > major || (has_major == major && has_minor >= minor);
}

int os_dirty_open(void) {
  if (os_dirty_check() == 0) return 0;
  os_dirty_close();
  if (os_linux_fault_due()) return -ENOSYS;
  dirty.process = getpid();
  dirty.may_ask_roughly = is_kernel_at_least(6, 9);
  int error = open_tracker(&dirty.tracker);
  if (error == 0) error = open_pagemap();
  if (error == 0) error = probe();
  if (error != 0) os_dirty_close();
  return error;
}

/* The quickest of some: the thread may be interrupted in others. */
static int64_t time_writes(const struct descriptor *tracker, char *page) {
  enum { WRITES = 5 };
  volatile char *byte = page;
  int64_t least_ns = INT64_MAX;
  *byte = 0;
  for (int i = 0; i < WRITES; i++) {
    int error = set_protection(tracker, page, os_page_bytes(), UFFDIO_WRITEPROTECT_MODE_WP);
    if (error != 0) return error;
    int64_t start_ns = os_now_ns();
    *byte = 0;
    int64_t took_ns = os_now_ns() - start_ns;
    if (took_ns < least_ns) least_ns = took_ns;
  }
  return least_ns;
}

int64_t os_dirty_write_ns(void) {
  struct descriptor tracker = {.number = -1};
  char *page = os_map(os_page_bytes());
  if (page == NULL) return -ENOMEM;
  int64_t result = open_tracker(&tracker);
  if (result == 0) result = watch(&tracker, page, os_page_bytes());
  if (result == 0) result = time_writes(&tracker, page);
  os_unmap(page, os_page_bytes());
  forget(&tracker);
  return result;
}

void os_dirty_close(void) {
  forget(&dirty.tracker);
  forget(&dirty.pagemap);
}

/* A child's table of descriptors is as large as what it inherits. */
void os_dirty_forked(void) {
  os_dirty_close();
  if (dirty.is_prepared) os_dirty_prepare();
}

int os_dirty_check(void) {
  bool is_whole = is_ours(&dirty.tracker) && is_ours(&dirty.pagemap) && dirty.process == getpid();
  return is_whole ? 0 : -EBADF;
}
