/* os: which pages were written.  Each state and step of os_dirty.h; writes by the kernel and by other processes; holes,
 * guards, locked memory, huge pages; forks; descriptors that the program closes or takes; no privileges. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "base/bits.h"
#include "os/os_dirty.h"
#include "support/heap_test.h"
#include "support/os_dirty_test.h"

enum { PAGES = 64 };

static size_t page;

/* ---- ranges ---- */

/* Watched memory for a test, aligned to huge pages; small pages only unless the test says otherwise. */
static char *map_watched(size_t bytes) {
  char *start = os_reserve(bytes, max_size(page, os_huge_page_bytes()));
  REQUIRE(start != NULL && os_commit(start, bytes) == 0, "out of memory");
  os_advise_huge(start, bytes, false);
  int error = os_dirty_watch(start, bytes);
  REQUIRE(error == 0, "watch: %s", strerror(-error));
  return start;
}

static void touch(char *start, size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++) ((volatile char *)start)[i * page] = 1;
}

/* The same, and protected: CLEAN. */
static char *map_clean(size_t pages) {
  char *start = map_watched(pages * page);
  touch(start, 0, pages);
  REQUIRE(os_dirty_protect(start, pages * page) == 0, "protect");
  return start;
}

/* How many of the first `pages` are WRITTEN, and that these are consecutive ones from `first`. */
static size_t count_written(char *start, size_t pages, bool protect, size_t *first) {
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + pages * page}, written[2];
  size_t count;
  int error = os_dirty_scan(&rest, protect, written, 2, &count);
  REQUIRE(error == 0, "scan: %s", strerror(-error));
  REQUIRE(rest.start == rest.end && count <= 1, "%zu runs", count);
  *first = count == 0 ? 0 : (written[0].start - (uintptr_t)start) / page;
  return count == 0 ? 0 : (written[0].end - written[0].start) / page;
}

#define ASSERT_WRITTEN(start, pages, from, number)                             \
  do {                                                                         \
    size_t first_;                                                             \
    assert_int_equal(count_written((start), (pages), false, &first_), number); \
    assert_int_equal(first_, from);                                            \
  } while (0)

#define ASSERT_NONE_WRITTEN(start, pages) ASSERT_WRITTEN(start, pages, 0, 0)

static int try_scan(const char *start, size_t bytes, bool protect) {
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + bytes}, written[4];
  size_t count;
  return os_dirty_scan(&rest, protect, written, 4, &count);
}

/* ---- states ---- */

static void an_empty_page_is_not_written_until_it_is(void **state) {
  (void)state;
  char *start = map_watched(PAGES * page);
  ASSERT_NONE_WRITTEN(start, PAGES);
  assert_int_equal(((volatile char *)start)[5 * page], 0);
  if (test_reads_give_memory()) {
    ASSERT_WRITTEN(start, PAGES, 5, 1);
  } else {
    ASSERT_NONE_WRITTEN(start, PAGES);
  }
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  touch(start, 5, 1);
  ASSERT_WRITTEN(start, PAGES, 5, 1);
  touch(start, 6, 1); /* was empty while its neighbours were protected */
  ASSERT_WRITTEN(start, PAGES, 5, 2);
  os_unmap(start, PAGES * page);
}

static void a_scan_cleans_only_where_it_protects(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  size_t first;
  ASSERT_NONE_WRITTEN(start, PAGES);
  touch(start, 9, 3);
  ASSERT_WRITTEN(start, PAGES, 9, 3);
  ASSERT_WRITTEN(start, PAGES, 9, 3);
  assert_int_equal(count_written(start, 10, true, &first), 1); /* page 9 alone is in the range */
  ASSERT_WRITTEN(start, PAGES, 10, 2);
  assert_int_equal(count_written(start, PAGES, true, &first), 2);
  ASSERT_NONE_WRITTEN(start, PAGES);
  touch(start, 10, 1);
  ASSERT_WRITTEN(start, PAGES, 10, 1);
  os_unmap(start, PAGES * page);
}

static void reading_does_not_write(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  for (size_t i = 0; i < PAGES; i++) assert_int_equal(((volatile char *)start)[i * page], 1);
  ASSERT_NONE_WRITTEN(start, PAGES);
  os_unmap(start, PAGES * page);
}

static void watching_again_changes_nothing(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 3, 1);
  assert_int_equal(os_dirty_watch(start, PAGES * page), 0);
  assert_int_equal(os_dirty_watch(start + 2 * page, 4 * page), 0);
  ASSERT_WRITTEN(start, PAGES, 3, 1);
  os_unmap(start, PAGES * page);
}

static void memory_is_watched_before_it_is_committed(void **state) {
  (void)state;
  size_t bytes = (size_t)64 << 30, step = 4 * page;
  char *start = os_reserve(bytes, page);
  if (start == NULL) skip();
  assert_int_equal(os_dirty_watch(start, bytes), 0);
  for (size_t used = 0; used < 10 * step; used += step) {
    assert_int_equal(os_commit(start + used, step), 0);
    touch(start + used, 0, 4);
    size_t first, count = count_written(start, used / page + 16, true, &first);
    assert_int_equal(first, used / page);
    assert_int_equal(count, 4);
  }
  assert_int_equal(try_scan(start, bytes, true), 0);
  os_unmap(start, bytes);
}

/* ---- runs ---- */

static void runs_are_whole_across_system_calls(void **state) {
  (void)state;
  size_t bytes = 80 << 20, pages = bytes / page; /* more than the kernel is asked about at once */
  char *start = map_clean(pages);
  touch(start, 100, pages - 200);
  ASSERT_WRITTEN(start, pages, 100, pages - 200);
  os_unmap(start, bytes);
}

/* Every second page, by arrays of any size: each is reported once, whether it is protected then or not. */
static void a_full_array_is_no_end(void **state) {
  (void)state;
  enum { MANY = 1000 };
  char *start = map_clean(MANY);
  for (size_t capacity = 1; capacity <= 300; capacity += 1 + capacity / 2) {
    for (int protect = 0; protect <= 1; protect++) {
      for (size_t i = 1; i < MANY; i += 2) touch(start, i, 1);
      struct os_range rest = {(uintptr_t)start, (uintptr_t)start + MANY * page}, written[300];
      size_t next = 1, count;
      while (rest.start < rest.end) {
        assert_int_equal(os_dirty_scan(&rest, protect, written, capacity, &count), 0);
        assert_true(count <= capacity && (count == capacity || rest.start == rest.end));
        for (size_t i = 0; i < count; i++, next += 2) {
          assert_int_equal(written[i].start, (uintptr_t)start + next * page);
          assert_int_equal(written[i].end, written[i].start + page);
        }
      }
      assert_int_equal(next, MANY + 1);
    }
    ASSERT_NONE_WRITTEN(start, MANY);
  }
  os_unmap(start, MANY * page);
}

/* ---- who else writes ---- */

static void system_calls_write(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], "ab", 2), 2);
  assert_int_equal(read(ends[0], start + 8 * page - 1, 2), 2); /* one byte in each of two pages */
  ASSERT_WRITTEN(start, PAGES, 7, 2);
  close(ends[0]);
  close(ends[1]);
  os_unmap(start, PAGES * page);
}

static int write_to_parent(void *address) {
  struct iovec local = {"x", 1}, remote = {address, 1};
  if (process_vm_writev(getppid(), &local, 1, &remote, 1, 0) == 1) return 0;
  return errno == EPERM || errno == ENOSYS ? TEST_SKIPPED : 1;
}

static void other_processes_write(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  struct test_outcome outcome = test_child(write_to_parent, start + 11 * page, 10);
  assert_true(WIFEXITED(outcome.status));
  if (WEXITSTATUS(outcome.status) == TEST_SKIPPED) skip(); /* forbidden here */
  assert_int_equal(WEXITSTATUS(outcome.status), 0);
  assert_int_equal(start[11 * page], 'x');
  ASSERT_WRITTEN(start, PAGES, 11, 1);
  os_unmap(start, PAGES * page);
}

/* As debuggers do it. */
static void the_file_of_memory_writes(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (memory < 0) skip();
  assert_int_equal(pwrite(memory, "y", 1, (off_t)(uintptr_t)(start + 20 * page)), 1);
  close(memory);
  ASSERT_WRITTEN(start, PAGES, 20, 1);
  os_unmap(start, PAGES * page);
}

static void populating_counts_as_writing(void **state) {
  (void)state;
  char *start = map_watched(PAGES * page);
  touch(start, 0, 4);
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  os_populate(start + 2 * page, 4 * page);
  ASSERT_WRITTEN(start, PAGES, 2, 4);
  os_unmap(start, PAGES * page);
}

/* ---- what becomes of pages ---- */

static void a_released_page_is_empty(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 4, 4);
  assert_int_equal(os_release(start + 2 * page, 4 * page), 0); /* two clean ones, two written ones */
  ASSERT_WRITTEN(start, PAGES, 6, 2);
  assert_int_equal(((volatile char *)start)[5 * page], 0);
  bool gives = test_reads_give_memory();
  ASSERT_WRITTEN(start, PAGES, gives ? 5 : 6, gives ? 3 : 2);
  touch(start, 5, 1);
  ASSERT_WRITTEN(start, PAGES, 5, 3);
  os_unmap(start, PAGES * page);
}

static void guards_are_empty(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  size_t first;
  touch(start, 8, 8);
  assert_int_equal(os_guard(start + 10 * page, 2 * page), 0);
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + PAGES * page}, written[4];
  size_t count;
  assert_int_equal(os_dirty_scan(&rest, true, written, 4, &count), 0);
  assert_true(count >= 1 && written[0].start == (uintptr_t)start + 8 * page);
  assert_int_equal(written[count - 1].end, (uintptr_t)start + 16 * page);
  assert_int_equal(madvise(start + 10 * page, page, 22), -1); /* MADV_POPULATE_READ: it is a guard still */
  assert_int_equal(os_unguard(start + 10 * page, 2 * page), 0);
  assert_int_equal(((volatile char *)start)[10 * page], 0);
  assert_int_equal(count_written(start, PAGES, true, &first), test_reads_give_memory() ? 1 : 0);
  touch(start, 10, 1);
  assert_int_equal(count_written(start, PAGES, true, &first), 1);
  assert_int_equal(first, 10);
  os_unmap(start, PAGES * page);
}

static void access_taken_away_changes_no_state(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 30, 2);
  assert_int_equal(os_protect_none(start + 29 * page, 2 * page), 0); /* a clean one, a written one */
  ASSERT_WRITTEN(start, PAGES, 30, 2);
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  assert_int_equal(os_commit(start + 29 * page, 2 * page), 0);
  ASSERT_NONE_WRITTEN(start, PAGES);
  touch(start, 29, 1);
  ASSERT_WRITTEN(start, PAGES, 29, 1);
  os_unmap(start, PAGES * page);
}

static void locked_memory_is_told_too(void **state) {
  (void)state;
  char *start = map_watched(PAGES * page);
  if (mlock(start, PAGES * page) != 0) skip();
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  ASSERT_NONE_WRITTEN(start, PAGES);
  touch(start, 17, 2);
  ASSERT_WRITTEN(start, PAGES, 17, 2);
  os_unmap(start, PAGES * page);
}

static bool is_resident(const char *address) {
  unsigned char resident;
  return mincore((void *)(uintptr_t)address, page, &resident) == 0 && (resident & 1) != 0;
}

static void paged_out_memory_is_told_too(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 5, 2);
  madvise(start, PAGES * page, 21);          /* MADV_PAGEOUT */
  if (is_resident(start + 5 * page)) skip(); /* no swap space */
  ASSERT_WRITTEN(start, PAGES, 5, 2);
  touch(start, 7, 1);
  ASSERT_WRITTEN(start, PAGES, 5, 3);
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  for (size_t i = 0; i < PAGES; i++) assert_int_equal(((volatile char *)start)[i * page], 1);
  ASSERT_NONE_WRITTEN(start, PAGES);
  os_unmap(start, PAGES * page);
}

/* As static data is: what was not written shows the file, and reading it brings nothing that must be told. */
static void private_memory_of_a_file_is_told_too(void **state) {
  (void)state;
  enum { FILE_PAGES = 8, BSS_PAGES = 4 };
  int file = memfd_create("data", MFD_CLOEXEC);
  assert_true(file >= 0 && ftruncate(file, (off_t)(FILE_PAGES * page)) == 0);
  char *start = os_map((FILE_PAGES + BSS_PAGES) * page);
  assert_ptr_equal(mmap(start, FILE_PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0), start);
  touch(start, 2, 1);
  assert_int_equal(os_dirty_watch(start, (FILE_PAGES + BSS_PAGES) * page), 0);
  for (size_t i = 0; i < FILE_PAGES; i++) assert_int_equal(((volatile char *)start)[i * page], i == 2);
  assert_int_equal(os_dirty_protect(start, (FILE_PAGES + BSS_PAGES) * page), 0);
  ASSERT_NONE_WRITTEN(start, FILE_PAGES + BSS_PAGES);
  touch(start, 2, 1); /* has a copy */
  touch(start, 3, 1); /* shows the file */
  ASSERT_WRITTEN(start, FILE_PAGES + BSS_PAGES, 2, 2);
  assert_int_equal(os_dirty_protect(start, (FILE_PAGES + BSS_PAGES) * page), 0);
  touch(start, FILE_PAGES, 1);
  ASSERT_WRITTEN(start, FILE_PAGES + BSS_PAGES, FILE_PAGES, 1);
  assert_int_equal(start[3 * page], 1);
  char byte = 1;
  assert_int_equal(pread(file, &byte, 1, (off_t)(3 * page)), 1);
  assert_int_equal(byte, 0);
  os_unmap(start, (FILE_PAGES + BSS_PAGES) * page);
  close(file);
}

static void holes_are_passed_over(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  os_unmap(start + 20 * page, 4 * page);
  touch(start, 19, 1);
  touch(start, 24, 1);
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + PAGES * page}, written[4];
  size_t count;
  assert_int_equal(os_dirty_scan(&rest, true, written, 4, &count), 0);
  assert_int_equal(count, 2);
  assert_int_equal(written[0].start, (uintptr_t)start + 19 * page);
  assert_int_equal(written[1].end, (uintptr_t)start + 25 * page);
  ASSERT_NONE_WRITTEN(start, PAGES);
  assert_int_equal(os_dirty_watch(start, PAGES * page), 0);
  os_unmap(start, PAGES * page);
}

/* The program may map anything into the heap's range; a scan must not call that clean. */
static void unwatched_memory_is_refused(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  void *other =
      mmap(start + 20 * page, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  assert_ptr_equal(other, start + 20 * page);
  assert_int_equal(try_scan(start, PAGES * page, false), -EPERM);
  assert_int_equal(try_scan(start, PAGES * page, true), -EPERM);
  assert_int_equal(os_dirty_protect(start, PAGES * page), -EPERM);
  assert_int_equal(try_scan(start, 20 * page, true), 0);
  os_unmap(start, PAGES * page);
}

/* ---- huge pages ---- */

/* Huge pages that are there, all CLEAN; NULL where none are to be had. */
static char *map_clean_huge(size_t count) {
  size_t huge = os_huge_page_bytes();
  if (huge == 0) return NULL;
  char *start = map_watched(count * huge);
  os_advise_huge(start, count * huge, true);
  for (size_t i = 0; i < count; i++) {
    size_t first;
    touch(start, i * (huge / page), 1);
    if (count_written(start + i * huge, huge / page, false, &first) != huge / page) return NULL;
  }
  REQUIRE(os_dirty_protect(start, count * huge) == 0, "protect");
  return start;
}

static void the_first_write_to_a_huge_page_splits_it(void **state) {
  (void)state;
  char *start = map_clean_huge(3);
  if (start == NULL) skip();
  size_t pages = 3 * os_huge_page_bytes() / page, middle = pages / 2;
  ASSERT_NONE_WRITTEN(start, pages);
  touch(start, middle, 1);
  ASSERT_WRITTEN(start, pages, middle, 1);
  touch(start, middle + 1, 1);
  ASSERT_WRITTEN(start, pages, middle, 2);
  os_unmap(start, pages * page);
}

static void a_scan_may_cut_a_huge_page(void **state) {
  (void)state;
  char *start = map_clean_huge(2);
  if (start == NULL) skip();
  size_t huge = os_huge_page_bytes(), pages = 2 * huge / page, first;
  os_release(start, 2 * huge);
  touch(start, 0, 1);
  touch(start, huge / page, 1);
  ASSERT_WRITTEN(start, pages, 0, pages);
  assert_int_equal(count_written(start, 10, true, &first), 10);
  ASSERT_WRITTEN(start, pages, 10, pages - 10);
  os_unmap(start, 2 * huge);
}

/* The advice cuts mappings in pieces, and joins them. */
static void advice_changes_no_state(void **state) {
  (void)state;
  char *start = map_clean_huge(4);
  if (start == NULL) skip();
  size_t huge = os_huge_page_bytes(), pages = 4 * huge / page;
  os_advise_huge(start + huge, huge, false);
  ASSERT_NONE_WRITTEN(start, pages);
  touch(start, huge / page, 1);
  os_advise_huge(start + huge, huge, true);
  os_advise_huge(start + 2 * huge + page, 4 * page, false);
  ASSERT_WRITTEN(start, pages, huge / page, 1);
  os_unmap(start, pages * page);
}

static void allowed_pages_are_written_before_they_are(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  ASSERT_NONE_WRITTEN(start, PAGES);
  assert_int_equal(os_dirty_allow(start + 2 * page, 3 * page), 0);
  ASSERT_WRITTEN(start, PAGES, 2, 3);
  assert_int_equal(os_dirty_protect(start, PAGES * page), 0);
  touch(start, 4, 1);
  ASSERT_WRITTEN(start, PAGES, 4, 1);
  os_release(start, PAGES * page);
  assert_int_equal(os_dirty_allow(start, PAGES * page), 0);
  ASSERT_NONE_WRITTEN(start, PAGES); /* no memory has come behind them */
  os_unmap(start, PAGES * page);
}

static void split_pages_are_joined(void **state) {
  (void)state;
  char *start = map_clean_huge(3);
  if (start == NULL) skip();
  size_t huge = os_huge_page_bytes(), pages = 3 * huge / page;
  for (size_t i = 0; i < pages; i += 7) start[i * page + 1] = (char)(i % 100);
  assert_int_equal(os_dirty_protect(start, pages * page), 0);
  ASSERT_NONE_WRITTEN(start, pages);
  int error = os_dirty_join(start + huge, huge);
  if (error == -ENOMEM || error == -EAGAIN) skip(); /* the machine has no huge page to spare */
  assert_int_equal(error, 0);
  ASSERT_WRITTEN(start, pages, huge / page, huge / page);
  for (size_t i = 0; i < pages; i += 7) assert_int_equal(start[i * page + 1], (char)(i % 100));
  assert_int_equal(os_dirty_protect(start, pages * page), 0);
  touch(start, huge / page + 5, 1);
  ASSERT_WRITTEN(start, pages, huge / page + 5, 1);
  os_release(start, page);
  assert_true(os_dirty_join(start, huge) < 0); /* an empty page */
  ASSERT_WRITTEN(start, huge / page, 1, huge / page - 1);
  os_unmap(start, pages * page);
}

/* ---- forks ---- */

static int child_begins_anew(void *argument) {
  char *start = argument;
  if (os_dirty_check() != -EBADF) return 1;
  os_dirty_forked();
  if (try_scan(start, PAGES * page, true) != -EBADF) return 2;
  if (os_dirty_open() != 0 || os_dirty_check() != 0) return 3;
  if (try_scan(start, PAGES * page, true) != -EPERM) return 4; /* nothing is watched */
  if (os_dirty_watch(start, PAGES * page) != 0) return 5;
  size_t first;
  if (count_written(start, PAGES, true, &first) != PAGES) return 6; /* nor was it ever protected */
  touch(start, 40, 2);
  if (count_written(start, PAGES, true, &first) != 2 || first != 40) return 7;
  os_dirty_close();
  return 0;
}

static void a_child_begins_anew(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 3, 1);
  test_child_succeeds("child", child_begins_anew, start, 10);
  assert_int_equal(os_dirty_check(), 0);
  ASSERT_WRITTEN(start, PAGES, 3, 1);
  touch(start, 4, 1); /* shared with the child until now */
  ASSERT_WRITTEN(start, PAGES, 3, 2);
  os_unmap(start, PAGES * page);
}

/* ---- descriptors ---- */

/* The numbers of what os_dirty_open keeps open. */
static int find_descriptors(int *numbers, int capacity) {
  int count = 0;
  for (int i = 3; i < 4096 && count < capacity; i++) {
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", i);
    if (readlink(path, target, sizeof target - 1) <= 0) continue;
    if (strstr(target, "userfaultfd") != NULL || strstr(target, "pagemap") != NULL) numbers[count++] = i;
  }
  return count;
}

static int open_userfaultfd(void) { return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1); }
static int open_event(void) { return eventfd(0, EFD_CLOEXEC); }
static int open_zeros(void) { return open("/dev/zero", O_RDWR | O_CLOEXEC); }
static int open_maps(void) { return open("/proc/self/maps", O_RDONLY | O_CLOEXEC); }

/* Closes one of the two, then gives its number to another file. */
static int descriptor_is_lost(int victim, int (*open_other)(void)) {
  os_dirty_forked();
  if (os_dirty_open() != 0) return 1;
  char *start = map_clean(PAGES);
  touch(start, 1, 1);
  int numbers[3];
  if (find_descriptors(numbers, 3) != 2) return 2;
  close(numbers[victim]);
  if (os_dirty_check() != -EBADF || try_scan(start, PAGES * page, true) >= 0) return 3;
  int other = open_other();
  if (other < 0 || dup2(other, numbers[victim]) < 0) return 4;
  if (other != numbers[victim]) close(other);
  if (os_dirty_check() != -EBADF || try_scan(start, PAGES * page, true) >= 0) return 5;
  if (os_dirty_watch(start, PAGES * page) == 0 && try_scan(start, PAGES * page, true) == 0) return 6;
  os_dirty_close();
  if (fcntl(numbers[victim], F_GETFD) < 0) return 7; /* it is left alone */
  close(numbers[victim]);
  if (find_descriptors(numbers, 3) != 0) return 8;
  if (os_dirty_open() != 0 || os_dirty_watch(start, PAGES * page) != 0) return 9;
  size_t first;
  return count_written(start, PAGES, true, &first) == PAGES ? 0 : 10;
}

static int descriptors_are_lost(void *argument) {
  (void)argument;
  int (*const others[])(void) = {open_userfaultfd, open_event, open_zeros, open_maps};
  for (int victim = 0; victim < 2; victim++) {
    for (int i = 0; i < 4; i++) {
      int step = descriptor_is_lost(victim, others[i]);
      if (step != 0) return 100 * victim + 20 * i + step;
    }
  }
  return 0;
}

static void lost_descriptors_are_noticed(void **state) {
  (void)state;
  test_child_succeeds("lost descriptors", descriptors_are_lost, NULL, 10);
}

/* Of the kernel's table of descriptors. */
static long table_size(void) {
  FILE *file = fopen("/proc/self/status", "re");
  if (file == NULL) return -1;
  char line[256];
  long size = -1;
  while (size < 0 && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "FDSize:", 7) == 0) size = strtol(line + 7, NULL, 10);
  }
  fclose(file);
  return size;
}

/* A fork makes the table as small as what is open. */
static int child_is_prepared(void *argument) {
  (void)argument;
  if (table_size() >= 960) return 1;
  os_dirty_forked();
  return table_size() >= 960 ? 0 : 2;
}

static int the_table_grows_early(void *argument) {
  (void)argument;
  int numbers[1];
  if (table_size() >= 960) return 1;
  os_dirty_prepare();
  if (table_size() < 960) return 2;
  if (find_descriptors(numbers, 1) != 0) return 3;
  test_child_succeeds("child of a prepared process", child_is_prepared, NULL, 10);
  return 0;
}

/* Later, when threads share it, that takes milliseconds. */
static int there_is_room_before_it_is_needed(void *argument) {
  (void)argument;
  os_dirty_forked();
  test_child_succeeds("prepared process", the_table_grows_early, NULL, 10);
  return 0;
}

static void the_table_of_descriptors_grows_early(void **state) {
  (void)state;
  test_child_succeeds("table of descriptors", there_is_room_before_it_is_needed, NULL, 10);
}

static int set_number_limit(rlim_t numbers) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < numbers) return -1;
  limit.rlim_cur = numbers;
  return setrlimit(RLIMIT_NOFILE, &limit);
}

static int low_numbers_stay_free(void *argument) {
  (void)argument;
  int numbers[2];
  os_dirty_forked();
  if (set_number_limit(1024) != 0) return TEST_SKIPPED;
  if (os_dirty_open() != 0 || find_descriptors(numbers, 2) != 2 || numbers[0] < 900) return 1;
  os_dirty_close();
  if (set_number_limit(64) != 0 || os_dirty_open() != 0) return 2; /* there are no high ones */
  os_dirty_close();
  if (set_number_limit(3) != 0) return 3;
  return os_dirty_open() == -EMFILE && os_dirty_check() == -EBADF ? 0 : 4;
}

static void low_numbers_are_the_programs(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(low_numbers_stay_free, NULL, 10);
  assert_true(WIFEXITED(outcome.status));
  if (WEXITSTATUS(outcome.status) == TEST_SKIPPED) skip();
  assert_int_equal(WEXITSTATUS(outcome.status), 0);
}

/* ---- privileges, faults ---- */

static int works_for_nobody(void *argument) {
  (void)argument;
  os_dirty_forked();
  if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) return TEST_SKIPPED;
  prctl(PR_SET_DUMPABLE, 1); /* /proc/self is root's otherwise */
  if (os_dirty_open() != 0) return 1;
  char *start = map_clean(PAGES);
  int ends[2];
  if (pipe(ends) != 0 || write(ends[1], "a", 1) != 1 || read(ends[0], start, 1) != 1) return 2;
  size_t first;
  return count_written(start, PAGES, true, &first) == 1 ? 0 : 3;
}

static void no_privilege_is_needed(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(works_for_nobody, NULL, 10);
  assert_true(WIFEXITED(outcome.status));
  if (WEXITSTATUS(outcome.status) == TEST_SKIPPED) skip();
  assert_int_equal(WEXITSTATUS(outcome.status), 0);
}

static void opening_twice_is_opening_once(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 2, 1);
  assert_int_equal(os_dirty_open(), 0);
  int numbers[3];
  assert_int_equal(find_descriptors(numbers, 3), 2);
  ASSERT_WRITTEN(start, PAGES, 2, 1);
  os_unmap(start, PAGES * page);
}

/* Whatever state the descriptors are in, which stays as it is. */
static void a_first_write_may_be_timed_at_any_time(void **state) {
  (void)state;
  char *start = map_clean(PAGES);
  touch(start, 2, 1);
  assert_in_range(os_dirty_write_ns(), 10, 1000000000);
  int numbers[3];
  assert_int_equal(find_descriptors(numbers, 3), 2);
  ASSERT_WRITTEN(start, PAGES, 2, 1);
  os_unmap(start, PAGES * page);
}

static int writes_are_timed_without_descriptors(void *argument) {
  int numbers[3];
  (void)argument;
  os_dirty_close();
  if (os_dirty_write_ns() <= 0) return 1;
  if (find_descriptors(numbers, 3) != 0) return 2;
  os_fail_after(1, true);
  return os_dirty_write_ns() < 0 ? 0 : 3;
}

static void a_first_write_is_timed_with_an_own_descriptor(void **state) {
  (void)state;
  test_child_succeeds("timing", writes_are_timed_without_descriptors, NULL, 10);
}

static int every_call_fails_on_purpose(void *argument) {
  char *start = argument;
  os_fail_after(1, true);
  if (try_scan(start, PAGES * page, true) != -ENOMEM) return 1;
  if (os_dirty_protect(start, PAGES * page) != -ENOMEM || os_dirty_watch(start, PAGES * page) != -ENOMEM) return 2;
  if (os_dirty_join(start, PAGES * page) != -ENOMEM || os_dirty_allow(start, page) != -ENOMEM) return 2;
  os_dirty_forked();
  if (os_dirty_open() != -ENOSYS) return 3;
  for (uint32_t nth = 1; nth <= 20; nth++) {
    os_fail_after(nth, false);
    int error = os_dirty_open();
    os_fail_after(0, false);
    if (error == 0) return nth > 4 ? 0 : 4; /* its own calls come first */
    if (os_dirty_check() != -EBADF) return 5;
  }
  return 6;
}

static void faults_on_purpose_are_reported(void **state) {
  (void)state;
  test_child_succeeds("faults", every_call_fails_on_purpose, map_clean(PAGES), 10);
}

/* Asks the system without the code under test, so that a mistake there does not pass as a reason to skip.  An argument
 * that is no pointer is EFAULT to a kernel that knows the request. */
static bool system_offers_it(void) {
  int tracker = open_userfaultfd(), pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  struct uffdio_api api = {.api = UFFD_API, .features = 1 << 15}; /* UFFD_FEATURE_WP_ASYNC */
  bool offers = tracker >= 0 && ioctl(tracker, UFFDIO_API, &api) == 0;
  offers = offers && ioctl(pagemap, _IOWR('f', 16, char[96]), NULL) < 0 && errno == EFAULT;
  close(tracker);
  close(pagemap);
  return offers;
}

int main(void) {
  os_init();
  page = os_page_bytes();
  int error = os_dirty_open();
  if (error != 0) {
    printf("os_dirty_open: %s\n", strerror(-error));
    return system_offers_it() ? 1 : TEST_SKIPPED;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_page_is_not_written_until_it_is),
      cmocka_unit_test(a_scan_cleans_only_where_it_protects),
      cmocka_unit_test(reading_does_not_write),
      cmocka_unit_test(watching_again_changes_nothing),
      cmocka_unit_test(memory_is_watched_before_it_is_committed),
      cmocka_unit_test(runs_are_whole_across_system_calls),
      cmocka_unit_test(a_full_array_is_no_end),
      cmocka_unit_test(system_calls_write),
      cmocka_unit_test(other_processes_write),
      cmocka_unit_test(the_file_of_memory_writes),
      cmocka_unit_test(populating_counts_as_writing),
      cmocka_unit_test(a_released_page_is_empty),
      cmocka_unit_test(guards_are_empty),
      cmocka_unit_test(access_taken_away_changes_no_state),
      cmocka_unit_test(locked_memory_is_told_too),
      cmocka_unit_test(paged_out_memory_is_told_too),
      cmocka_unit_test(private_memory_of_a_file_is_told_too),
      cmocka_unit_test(holes_are_passed_over),
      cmocka_unit_test(unwatched_memory_is_refused),
      cmocka_unit_test(the_first_write_to_a_huge_page_splits_it),
      cmocka_unit_test(a_scan_may_cut_a_huge_page),
      cmocka_unit_test(advice_changes_no_state),
      cmocka_unit_test(allowed_pages_are_written_before_they_are),
      cmocka_unit_test(split_pages_are_joined),
      cmocka_unit_test(a_child_begins_anew),
      cmocka_unit_test(lost_descriptors_are_noticed),
      cmocka_unit_test(the_table_of_descriptors_grows_early),
      cmocka_unit_test(low_numbers_are_the_programs),
      cmocka_unit_test(no_privilege_is_needed),
      cmocka_unit_test(opening_twice_is_opening_once),
      cmocka_unit_test(a_first_write_may_be_timed_at_any_time),
      cmocka_unit_test(a_first_write_is_timed_with_an_own_descriptor),
      cmocka_unit_test(faults_on_purpose_are_reported),
  };
  return test_run_group(tests);
}
