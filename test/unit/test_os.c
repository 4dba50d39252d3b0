/* os: memory, limits, waiting and faults on purpose, on the real system; control groups on a tree of files. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/wait.h"
#include "os/os.h"
#include "os/os_linux.h"

enum { MIB = 1 << 20, NS_PER_MS = 1000000 };

static int set_up(void **state) {
  (void)state;
  os_init();
  return 0;
}

/* Whether the kernel can read (or, by a pipe, write) at `address`: the question a fault would answer. */
static bool is_accessible(const void *address) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  bool readable = write(ends[1], address, 1) == 1;
  assert_true(readable || errno == EFAULT);
  close(ends[0]);
  close(ends[1]);
  return readable;
}

/* Whether any mapping covers `page`. */
static bool is_mapped(void *page) {
  unsigned char resident;
  return mincore(page, 1, &resident) == 0;
}

static size_t count_resident(void *start, size_t bytes) {
  size_t pages = bytes / os_page_bytes();
  unsigned char *resident = calloc(pages, 1);
  assert_non_null(resident);
  assert_int_equal(mincore(start, bytes, resident), 0);
  size_t count = 0;
  for (size_t i = 0; i < pages; i++) count += resident[i] & 1;
  free(resident);
  return count;
}

/* Runs `body` in a child and checks that it returns 0. */
static void run_in_child(int (*body)(void)) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(body());
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- memory ---- */

static void test_page_sizes(void **state) {
  (void)state;
  assert_int_equal(os_page_bytes(), sysconf(_SC_PAGESIZE));
  if (os_huge_page_bytes() != 0) {
    assert_true(is_power_of_two(os_huge_page_bytes()));
    assert_true(os_huge_page_bytes() > os_page_bytes());
  }
}

static void test_reserve_aligns_and_keeps_no_slack(void **state) {
  (void)state;
  for (size_t alignment = os_page_bytes(); alignment <= 64 * MIB; alignment *= 4) {
    size_t bytes = 3 * os_page_bytes();
    char *start = os_reserve(bytes, alignment);
    assert_non_null(start);
    assert_true(is_aligned((uintptr_t)start, alignment));
    assert_false(is_accessible(start));
    assert_true(is_mapped(start));
    assert_true(is_mapped(start + bytes - os_page_bytes()));
    os_unmap(start, bytes);
    assert_false(is_mapped(start));
    assert_false(is_mapped(start + bytes - os_page_bytes()));
  }
}

/* Limits the address space to what is mapped and `left` bytes more. */
static bool limit_address_space(uint64_t left) {
  uint64_t pages;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%" SCNu64, &pages) != 1) return false;
  fclose(file);
  struct rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = pages * os_page_bytes() + left;
  return setrlimit(RLIMIT_AS, &limit) == 0;
}

/* Counted in address space, as neighbours may be anybody's. */
static int reserve_costs_its_size(void) {
  if (!limit_address_space(1024 * (uint64_t)MIB)) return 1;
  uint64_t before = os_address_space_left_bytes();
  if (os_reserve(MIB, 256 * MIB) == NULL) return 2;
  return before - os_address_space_left_bytes() == MIB ? 0 : 3;
}

static void test_reserve_gives_the_slack_back(void **state) {
  (void)state;
  run_in_child(reserve_costs_its_size);
}

static void test_reserve_of_too_much_fails(void **state) {
  (void)state;
  assert_null(os_reserve((size_t)1 << 62, os_page_bytes()));
  assert_null(os_reserve(round_down(SIZE_MAX, os_page_bytes()), 2 * MIB));
  assert_null(os_map((size_t)1 << 62));
}

static void test_commit_release_protect(void **state) {
  (void)state;
  size_t bytes = MIB;
  char *start = os_reserve(bytes, os_page_bytes());
  assert_int_equal(os_commit(start, bytes / 2), 0);
  assert_false(is_accessible(start + bytes / 2));
  for (size_t i = 0; i < bytes / 2; i++) assert_int_equal(start[i], 0);
  memset(start, 0x5a, bytes / 2);
  assert_int_equal(count_resident(start, bytes / 2), bytes / 2 / os_page_bytes());

  assert_int_equal(os_release(start, bytes / 4), 0);
  assert_int_equal(count_resident(start, bytes / 4), 0);
  assert_int_equal(start[0], 0);
  assert_int_equal(start[bytes / 4], 0x5a);

  assert_int_equal(os_protect_none(start, os_page_bytes()), 0);
  assert_false(is_accessible(start));
  assert_true(is_accessible(start + os_page_bytes()));
  os_unmap(start, bytes);
}

static void test_refusals_are_reported(void **state) {
  (void)state;
  char *start = os_map(os_page_bytes());
  os_unmap(start, os_page_bytes());
  assert_int_equal(os_commit(start, os_page_bytes()), -ENOMEM);
  assert_int_equal(os_release(start, os_page_bytes()), -ENOMEM);
  assert_int_equal(os_protect_none(start, os_page_bytes()), -ENOMEM);
}

static void test_release_of_locked_memory(void **state) {
  (void)state;
  char *start = os_map(os_page_bytes());
  if (mlock(start, os_page_bytes()) != 0) skip();
  start[0] = 1;
  int error = os_release(start, os_page_bytes());
  if (error == 0) {
    assert_int_equal(start[0], 0);
  } else {
    assert_int_equal(error, -EINVAL); /* before Linux 5.18 */
    assert_int_equal(start[0], 1);
  }
  os_unmap(start, os_page_bytes());
}

static void test_map_and_unmap_in_part(void **state) {
  (void)state;
  size_t page = os_page_bytes();
  char *start = os_map(3 * page);
  assert_non_null(start);
  for (size_t i = 0; i < 3 * page; i++) assert_int_equal(start[i], 0);
  memset(start, 1, 3 * page);
  os_unmap(start + page, page);
  assert_true(is_accessible(start));
  assert_false(is_accessible(start + page));
  assert_true(is_accessible(start + 2 * page));
  os_unmap(start, page);
  os_unmap(start + 2 * page, page);
}

static void test_populate_faults_pages_in(void **state) {
  (void)state;
  char *start = os_map(MIB);
  assert_int_equal(count_resident(start, MIB), 0);
  os_populate(start, MIB / 2);
  size_t resident = count_resident(start, MIB);
  char *probe = os_map(os_page_bytes());
  bool supported = madvise(probe, os_page_bytes(), 23) == 0;
  if (supported) assert_true(resident >= MIB / 2 / os_page_bytes());
  os_populate(start, 1);
  os_unmap(probe, os_page_bytes());
  os_unmap(start, MIB);
}

/* The kernel shows the advice as a flag of the mapping. */
static bool has_flag(const void *address, const char *flag) {
  FILE *file = fopen("/proc/self/smaps", "r");
  assert_non_null(file);
  char line[4096];
  bool inside = false;
  bool found = false;
  while (fgets(line, sizeof line, file) != NULL) {
    uintptr_t start;
    uintptr_t end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = (uintptr_t)address >= start && (uintptr_t)address < end;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, flag) != NULL;
  }
  fclose(file);
  return found;
}

static void test_huge_advice(void **state) {
  (void)state;
  if (os_huge_page_bytes() == 0) skip();
  char *start = os_reserve(4 * MIB, 2 * MIB);
  assert_int_equal(os_commit(start, 4 * MIB), 0);
  os_advise_huge(start, 4 * MIB, true);
  if (!has_flag(start, " hg")) skip(); /* emulators show no flags */
  assert_false(has_flag(start, " nh"));
  os_advise_huge(start, 4 * MIB, false);
  assert_true(has_flag(start, " nh"));
  os_unmap(start, 4 * MIB);
}

/* ---- limits ---- */

static void write_file(const char *root, const char *name, const char *text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", root, name);
  for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = '\0';
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    *slash = '/';
  }
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position) {
  (void)status;
  (void)type;
  (void)position;
  return remove(path);
}

static void test_control_group_limits(void **state) {
  (void)state;
  char root[] = "/tmp/test_os_XXXXXX";
  assert_non_null(mkdtemp(root));
  write_file(root, "memory.max", "max\n");
  write_file(root, "cpu.max", "max 100000\n");
  write_file(root, "a/memory.max", "1000000\n");
  write_file(root, "a/cpu.max", "250000 100000\n");
  write_file(root, "a/b/memory.max", "max\n");
  write_file(root, "a/b/cpu.max", "400000 100000\n");
  write_file(root, "a/c/memory.max", "5000\n");
  write_file(root, "a/c/cpu.max", "10000 100000\n");
  write_file(root, "memory/memory.limit_in_bytes", "9223372036854771712\n");
  write_file(root, "memory/old/memory.limit_in_bytes", "70000\n");
  write_file(root, "cpu/old/cpu.cfs_quota_us", "300000\n");
  write_file(root, "cpu/old/cpu.cfs_period_us", "100000\n");
  write_file(root, "cpu/free/cpu.cfs_quota_us", "-1\n");
  write_file(root, "cpu/free/cpu.cfs_period_us", "100000\n");

  const struct {
    const char *groups;
    uint64_t memory_bytes;
    uint64_t processors;
  } cases[] = {
      {"", UINT64_MAX, UINT64_MAX},
      {"nonsense\n::\n:", UINT64_MAX, UINT64_MAX},
      {"0::/\n", UINT64_MAX, UINT64_MAX},
      {"0::/a\n", 1000000, 3},
      {"0::/a/b\n", 1000000, 3}, /* the parent binds */
      {"0::/a/c\n", 5000, 1},
      {"0::/a/c", 5000, 1},
      {"0::/a/missing/deep\n", 1000000, 3},
      {"0::/host/path\n", UINT64_MAX, UINT64_MAX},
      {"4:memory:/old\n1:cpu,cpuacct:/old\n0::/\n", 70000, 3},
      {"4:memory:/\n1:cpuacct,cpu:/free\n", 9223372036854771712u, UINT64_MAX},
      {"4:memoryless,nomemory:/old\n1:cpuset:/old\n", UINT64_MAX, UINT64_MAX},
      {"4:memory:/old\n0::/a/c\n", 5000, 1},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    assert_int_equal(os_linux_group_memory_bytes(root, cases[i].groups), cases[i].memory_bytes);
    assert_int_equal(os_linux_group_processors(root, cases[i].groups), cases[i].processors);
  }
  assert_int_equal(nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void test_machine_size(void **state) {
  (void)state;
  uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * os_page_bytes();
  assert_true(os_physical_memory_bytes() >= MIB);
  assert_true(os_physical_memory_bytes() <= machine);
  assert_true(os_processor_count() >= 1);
  assert_true(os_processor_count() <= (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
}

static int pinned_process_counts_one_processor(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET((unsigned)sched_getcpu(), &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) return 1;
  os_init();
  return os_processor_count() == 1 ? 0 : 2;
}

static void test_affinity_bounds_processors(void **state) {
  (void)state;
  run_in_child(pinned_process_counts_one_processor);
}

static int address_space_limit_is_seen(void) {
  if (!limit_address_space(1024 * (uint64_t)MIB)) return 1;
  uint64_t left = os_address_space_left_bytes();
  if (left < 1000 * (uint64_t)MIB || left > 1025 * (uint64_t)MIB) return 2; /* the C library maps and unmaps a little */
  if (os_map(16 * MIB) == NULL) return 3;
  if (left - os_address_space_left_bytes() != 16 * MIB) return 4;
  struct rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = os_page_bytes();
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 5;
  if (os_address_space_left_bytes() != 0) return 6;
  return os_map(16 * MIB) == NULL ? 0 : 7;
}

static void test_address_space_left(void **state) {
  (void)state;
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
  if (limit.rlim_cur == RLIM_INFINITY) assert_int_equal(os_address_space_left_bytes(), UINT64_MAX);
  run_in_child(address_space_limit_is_seen);
}

static void test_resident_bytes_follow_use(void **state) {
  (void)state;
  uint64_t before = os_resident_bytes();
  assert_true(before > 0);
  char *start = os_map(32 * MIB);
  memset(start, 1, 32 * MIB);
  uint64_t with = os_resident_bytes();
  assert_true(with >= before + 24 * MIB); /* the kernel's counters lag a little */
  os_unmap(start, 32 * MIB);
  assert_true(os_resident_bytes() <= with - 24 * MIB);
}

/* ---- time and waiting ---- */

static void test_clocks(void **state) {
  (void)state;
  uint64_t wall = os_now_ns();
  uint64_t processor = os_thread_cpu_ns();
  usleep(20000);
  uint64_t slept = os_now_ns() - wall;
  assert_true(slept >= 20 * NS_PER_MS);
  assert_true(os_thread_cpu_ns() - processor < slept); /* sleep costs no processor time */
  while (os_thread_cpu_ns() - processor < NS_PER_MS) wait_yield();
}

static void test_wait_on_changed_word_returns(void **state) {
  (void)state;
  uint32_t word = 1;
  wait_on_word(&word, 0);
  uint64_t start = os_now_ns();
  wait_on_word_for(&word, 0, 10000ull * NS_PER_MS);
  assert_true(os_now_ns() - start < 5000ull * NS_PER_MS);
}

static void test_wait_times_out(void **state) {
  (void)state;
  uint32_t word = 0;
  uint64_t start = os_now_ns();
  for (;;) { /* an early return is allowed, an early end of the time is not */
    uint64_t waited = os_now_ns() - start;
    if (waited >= 20 * NS_PER_MS) break;
    wait_on_word_for(&word, 0, 20 * NS_PER_MS - waited);
  }
  assert_true(os_now_ns() - start < 5000ull * NS_PER_MS);
}

struct sleepers {
  uint32_t word;
  uint32_t awake;
};

static void *sleep_until_word(void *opaque) {
  struct sleepers *sleepers = opaque;
  while (atomic_load_acquire(&sleepers->word) == 0) wait_on_word(&sleepers->word, 0);
  atomic_add_acq_rel(&sleepers->awake, 1u);
  return NULL;
}

static void test_wake_all_and_one(void **state) {
  (void)state;
  void (*const wakes[])(uint32_t *) = {wake_all, wake_one};
  for (size_t way = 0; way < COUNT_OF(wakes); way++) {
    struct sleepers sleepers = {0};
    pthread_t threads[3];
    size_t count = wakes[way] == wake_all ? 3 : 1;
    for (size_t i = 0; i < count; i++) {
      assert_int_equal(pthread_create(&threads[i], NULL, sleep_until_word, &sleepers), 0);
    }
    usleep(10000); /* lets them fall asleep, though nothing depends on it */
    assert_int_equal(atomic_load_acquire(&sleepers.awake), 0);
    atomic_store_release(&sleepers.word, 1u);
    wakes[way](&sleepers.word);
    for (size_t i = 0; i < count; i++) pthread_join(threads[i], NULL);
    assert_int_equal(sleepers.awake, count);
  }
}

/* ---- faults on purpose ---- */

static void never_run(void *argument) {
  (void)argument;
  abort();
}

static void test_nth_call_fails(void **state) {
  (void)state;
  size_t page = os_page_bytes();
  char *reserved = os_reserve(page, page);
  os_fail_after(3, false);
  assert_int_equal(os_commit(reserved, page), 0);
  void *mapped = os_map(page);
  assert_non_null(mapped);
  assert_null(os_reserve(page, page));
  void *second = os_map(page);
  assert_non_null(second);

  os_fail_after(1, false);
  assert_int_equal(os_commit(reserved, page), -ENOMEM);
  assert_int_equal(os_commit(reserved, page), 0);
  os_fail_after(1, false);
  assert_null(os_map(page));
  os_fail_after(1, false);
  assert_int_equal(os_start_thread(never_run, NULL, "never"), -EAGAIN);
  os_unmap(mapped, page);
  os_unmap(second, page);
  os_unmap(reserved, page);
}

static void test_every_later_call_fails(void **state) {
  (void)state;
  size_t page = os_page_bytes();
  os_fail_after(2, true);
  void *mapped = os_map(page);
  assert_non_null(mapped);
  for (int i = 0; i < 5; i++) assert_null(os_map(page));
  assert_null(os_reserve(page, page));
  assert_int_equal(os_start_thread(never_run, NULL, "never"), -EAGAIN);
  os_fail_after(0, false);
  void *second = os_map(page);
  assert_non_null(second);
  os_unmap(mapped, page);
  os_unmap(second, page);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_page_sizes),
      cmocka_unit_test(test_reserve_aligns_and_keeps_no_slack),
      cmocka_unit_test(test_reserve_gives_the_slack_back),
      cmocka_unit_test(test_reserve_of_too_much_fails),
      cmocka_unit_test(test_commit_release_protect),
      cmocka_unit_test(test_refusals_are_reported),
      cmocka_unit_test(test_release_of_locked_memory),
      cmocka_unit_test(test_map_and_unmap_in_part),
      cmocka_unit_test(test_populate_faults_pages_in),
      cmocka_unit_test(test_huge_advice),
      cmocka_unit_test(test_control_group_limits),
      cmocka_unit_test(test_machine_size),
      cmocka_unit_test(test_affinity_bounds_processors),
      cmocka_unit_test(test_address_space_left),
      cmocka_unit_test(test_resident_bytes_follow_use),
      cmocka_unit_test(test_clocks),
      cmocka_unit_test(test_wait_on_changed_word_returns),
      cmocka_unit_test(test_wait_times_out),
      cmocka_unit_test(test_wake_all_and_one),
      cmocka_unit_test(test_nth_call_fails),
      cmocka_unit_test(test_every_later_call_fails),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
