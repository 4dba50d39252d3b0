/* Linux: memory, limits, time, waiting, and faults on purpose.
 *
 * Plain system calls with their answers turned into the contract's.  What never changes is read once by os_init into
 * `facts`, so that everything else can run while the world is stopped.  Small kernel files are read with bare system
 * calls: the C library's open and read are cancellation points, and a thread must not be cancelled in the middle of the
 * collector. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/wait.h"
#include "os/os.h"
#include "os/os_linux.h"

/* Kernel constants that older headers lack. */
enum {
  ADVICE_POPULATE_READ = 22,   /* MADV_POPULATE_READ, Linux 5.14 */
  ADVICE_DONTNEED_LOCKED = 24, /* MADV_DONTNEED_LOCKED, Linux 5.18 */
  ADVICE_GUARD_INSTALL = 102,  /* MADV_GUARD_INSTALL, Linux 6.13 */
  ADVICE_GUARD_REMOVE = 103,   /* MADV_GUARD_REMOVE */
};

/* Constant after os_init. */
static struct {
  size_t page_bytes;
  size_t huge_page_bytes;
  uint64_t physical_memory_bytes;
  unsigned processor_count;
} facts;

/* ---- files that the library writes ---- */

int os_absolute_path(const char *path, char *absolute, size_t capacity) {
  size_t used = 0;
  if (*path != '/') {
    if (getcwd(absolute, capacity) == NULL) return errno == ERANGE ? -ENAMETOOLONG : -errno;
    used = strlen(absolute);
    if (used + 1 < capacity) absolute[used++] = '/';
  }
  if (strlen(path) >= capacity - used) return -ENAMETOOLONG;
  strcpy(absolute + used, path);
  return 0;
}

/* While the library creates or writes a file its thread, which may be the program's in the middle of an allocation, is not
 * cancelled; and where the file would grow beyond what the process may write (RLIMIT_FSIZE) that is an error, not the
 * signal that ends the process. */
struct writing {
  int cancellation;
  sigset_t too_large; /* that signal alone */
  sigset_t before;
  bool was_pending;
};

static bool is_pending(int signal) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

static void begin_writing(struct writing *writing) {
  writing->cancellation = os_forbid_cancellation();
  sigemptyset(&writing->too_large);
  sigaddset(&writing->too_large, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &writing->too_large, &writing->before);
  writing->was_pending = is_pending(SIGXFSZ);
}

static void end_writing(const struct writing *writing) {
  if (!writing->was_pending && is_pending(SIGXFSZ))
    sigtimedwait(&writing->too_large, NULL, &(struct timespec){.tv_sec = 0});
  pthread_sigmask(SIG_SETMASK, &writing->before, NULL);
  os_restore_cancellation(writing->cancellation);
}

/* O_NONBLOCK: of a pipe that nobody reads nothing is waited for. */
int os_create_file(const char *path) {
  struct writing writing;
  begin_writing(&writing);
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0644);
  int error = file < 0 ? -errno : 0;
  if (file >= 0) close(file);
  end_writing(&writing);
  return error;
}

static int write_all(int file, const char *data, size_t bytes, off_t offset) {
  while (bytes != 0) {
    ssize_t written = pwrite(file, data, bytes, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? -errno : -ENOSPC;
    data += written;
    bytes -= (size_t)written;
    offset += written;
  }
  return 0;
}

static int write_file(const char *path, const void *data, size_t bytes, uint64_t offset) {
  int file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return -errno;
  int error = write_all(file, data, bytes, (off_t)offset);
  close(file);
  return error;
}

int os_write_file(const char *path, const void *data, size_t bytes, uint64_t offset) {
  struct writing writing;
  begin_writing(&writing);
  int error = write_file(path, data, bytes, offset);
  end_writing(&writing);
  return error;
}

bool os_file_has_length(const char *path, uint64_t bytes) {
  struct stat status;
  if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return true;
  return (uint64_t)status.st_size == bytes;
}

/* The kernel makes the list anew for each read, from where the one before ended. */
static int copy_all(int from, int to, off_t offset) {
  char text[4096];
  for (;;) {
    ssize_t got = read(from, text, sizeof text);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? -errno : 0;
    int error = write_all(to, text, (size_t)got, offset);
    if (error != 0) return error;
    offset += got;
  }
}

static int write_mappings(const char *path, uint64_t offset) {
  int from = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (from < 0) return -errno;
  int to = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  int error = to < 0 ? -errno : copy_all(from, to, (off_t)offset);
  if (to >= 0) close(to);
  close(from);
  return error;
}

int os_write_mappings(const char *path, uint64_t offset) {
  struct writing writing;
  begin_writing(&writing);
  int error = write_mappings(path, offset);
  end_writing(&writing);
  return error;
}

uint32_t os_process_id(void) { return (uint32_t)getpid(); }

/* ---- small files of the kernel ---- */

/* Reads at most capacity - 1 bytes and ends them with '\0'.  False, and an empty text, where the file cannot be read. */
static bool read_text(const char *path, char *text, size_t capacity) {
  memset(text, 0, capacity);
  long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  size_t used = 0;
  while (used < capacity - 1) {
    long got = syscall(SYS_read, file, text + used, capacity - 1 - used);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    used += (size_t)got;
  }
  syscall(SYS_close, file);
  return used > 0;
}

/* Reads the decimal number at *text and moves *text past it.  False where there is none. */
static bool parse_number(const char **text, uint64_t *number) {
  const char *digit = *text;
  while (*digit == ' ') digit++;
  if (*digit < '0' || *digit > '9') return false;
  uint64_t value = 0;
  for (; *digit >= '0' && *digit <= '9'; digit++) {
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value)) {
      value = UINT64_MAX;
    }
  }
  *text = digit;
  *number = value;
  return true;
}

static bool read_number(const char *path, uint64_t *number) {
  char text[64];
  const char *cursor = text;
  return read_text(path, text, sizeof text) && parse_number(&cursor, number);
}

/* ---- control groups ----
 *
 * /proc/self/cgroup names the process's group in each hierarchy, one a line: "0::/path" in the unified one,
 * "4:memory:/path" in an old one of its own.  A limit of any parent binds too, so each folder from the group up to the
 * mount is asked.  Inside a container the path may be the host's, of which only the mount itself exists: folders that
 * are missing set no limit. */

enum { GROUP_PATH_BYTES = 4096 };

/* Reads one limit of the group whose folder is `folder`, or UINT64_MAX. */
typedef uint64_t read_group_limit(const char *folder);

static bool read_group_number(const char *folder, const char *file, uint64_t *number) {
  char path[GROUP_PATH_BYTES + 32];
  snprintf(path, sizeof path, "%s/%s", folder, file);
  return read_number(path, number);
}

static uint64_t read_group_memory(const char *folder) {
  uint64_t bytes;
  if (read_group_number(folder, "memory.max", &bytes)) return bytes; /* "max" is no number: no limit */
  if (read_group_number(folder, "memory.limit_in_bytes", &bytes)) return bytes;
  return UINT64_MAX;
}

static uint64_t quota_to_processors(uint64_t quota, uint64_t period) {
  if (quota == 0 || period == 0) return UINT64_MAX;
  return quota / period + (quota % period != 0);
}

static uint64_t read_group_processors(const char *folder) {
  char path[GROUP_PATH_BYTES + 32];
  char text[64];
  snprintf(path, sizeof path, "%s/cpu.max", folder);
  uint64_t quota;
  uint64_t period;
  if (read_text(path, text, sizeof text)) { /* "quota period", or "max period" */
    const char *cursor = text;
    bool limited = parse_number(&cursor, &quota) && parse_number(&cursor, &period);
    return limited ? quota_to_processors(quota, period) : UINT64_MAX;
  }
  bool limited = read_group_number(folder, "cpu.cfs_quota_us", &quota) && /* "-1" is no number: no limit */
                 read_group_number(folder, "cpu.cfs_period_us", &period);
  return limited ? quota_to_processors(quota, period) : UINT64_MAX;
}

/* The smallest limit of `folder` and its parents, down to its first mount_length characters.  Cuts `folder`. */
static uint64_t smallest_limit(char *folder, size_t mount_length, read_group_limit *read_limit) {
  uint64_t smallest = UINT64_MAX;
  for (;;) {
    uint64_t limit = read_limit(folder);
    if (limit < smallest) smallest = limit;
    char *slash = strrchr(folder + mount_length, '/');
    if (slash == NULL) return smallest;
    *slash = '\0';
  }
}

/* Whether `name` is one of the words of the comma-separated list of `length` characters. */
static bool list_has_word(const char *list, size_t length, const char *name) {
  size_t name_length = strlen(name);
  const char *end = list + length;
  while (list < end) {
    const char *comma = memchr(list, ',', (size_t)(end - list));
    const char *word_end = comma != NULL ? comma : end;
    if ((size_t)(word_end - list) == name_length && memcmp(list, name, name_length) == 0) return true;
    list = word_end + 1;
  }
  return false;
}

/* The limit that one line of /proc/self/cgroup leads to. */
static uint64_t limit_of_line(const char *mount, const char *line, size_t length, const char *controller,
                              read_group_limit *read_limit) {
  const char *end = line + length;
  const char *names = memchr(line, ':', length);
  if (names == NULL) return UINT64_MAX;
  names++;
  const char *path = memchr(names, ':', (size_t)(end - names));
  if (path == NULL) return UINT64_MAX;
  bool unified = path == names;
  if (!unified && !list_has_word(names, (size_t)(path - names), controller)) return UINT64_MAX;
  path++;

  char folder[GROUP_PATH_BYTES];
  int mount_length = snprintf(folder, sizeof folder, "%s%s%s", mount, unified ? "" : "/", unified ? "" : controller);
  if (mount_length < 0 || (size_t)mount_length + (size_t)(end - path) >= sizeof folder) return UINT64_MAX;
  memcpy(folder + mount_length, path, (size_t)(end - path));
  folder[(size_t)mount_length + (size_t)(end - path)] = '\0';
  return smallest_limit(folder, (size_t)mount_length, read_limit);
}

static uint64_t group_limit(const char *mount, const char *groups, const char *controller,
                            read_group_limit *read_limit) {
  uint64_t smallest = UINT64_MAX;
  while (*groups != '\0') {
    size_t length = strcspn(groups, "\n");
    uint64_t limit = limit_of_line(mount, groups, length, controller, read_limit);
    if (limit < smallest) smallest = limit;
    groups += length + (groups[length] == '\n');
  }
  return smallest;
}

uint64_t os_linux_group_memory_bytes(const char *mount, const char *groups) {
  return group_limit(mount, groups, "memory", read_group_memory);
}

uint64_t os_linux_group_processors(const char *mount, const char *groups) {
  return group_limit(mount, groups, "cpu", read_group_processors);
}

/* ---- start ---- */

static size_t find_huge_page_bytes(void) {
  char text[128];
  if (!read_text("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text)) return 0;
  if (strstr(text, "[never]") != NULL) return 0;
  if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) return 0;
  uint64_t bytes;
  if (!read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &bytes)) return 0;
  return is_power_of_two(bytes) ? (size_t)bytes : 0;
}

/* The mask is read with the bare system call: it takes any size, where the C library's type ends at 1024. */
static unsigned count_allowed_processors(void) {
  uint64_t mask[1024] = {0};
  long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
  unsigned count = 0;
  for (size_t i = 0; bytes > 0 && i < (size_t)bytes / sizeof mask[0]; i++) count += count_bits(mask[i]);
  return count;
}

void os_init(void) {
  facts.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
  facts.huge_page_bytes = find_huge_page_bytes();

  char groups[8192];
  read_text("/proc/self/cgroup", groups, sizeof groups);
  uint64_t machine_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * facts.page_bytes;
  uint64_t group_bytes = os_linux_group_memory_bytes("/sys/fs/cgroup", groups);
  facts.physical_memory_bytes = machine_bytes < group_bytes ? machine_bytes : group_bytes;

  unsigned allowed = count_allowed_processors();
  uint64_t quota = os_linux_group_processors("/sys/fs/cgroup", groups);
  facts.processor_count = quota < allowed ? (unsigned)quota : allowed;
  if (facts.processor_count == 0) facts.processor_count = 1;

  os_linux_init_thread_storage();
}

/* ---- memory ---- */

size_t os_page_bytes(void) { return facts.page_bytes; }

size_t os_huge_page_bytes(void) { return facts.huge_page_bytes; }

uint64_t os_physical_memory_bytes(void) { return facts.physical_memory_bytes; }

static void *map(size_t bytes, int protection, int flags) {
  void *start = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  return start == MAP_FAILED ? NULL : start;
}

/* Takes more than asked for, then gives back what lies outside the first aligned range of the size. */
void *os_reserve(size_t bytes, size_t alignment) {
  ASSERT(is_power_of_two(alignment) && alignment >= facts.page_bytes);
  ASSERT(is_aligned(bytes, facts.page_bytes));
  if (os_linux_fault_due()) return NULL;
  size_t slack = alignment - facts.page_bytes;
  size_t taken;
  if (__builtin_add_overflow(bytes, slack, &taken)) return NULL;
  char *start = map(taken, PROT_NONE, MAP_NORESERVE);
  if (start == NULL) return NULL;
  size_t before = round_up((uintptr_t)start, alignment) - (uintptr_t)start;
  if (before > 0) os_unmap(start, before);
  if (slack > before) os_unmap(start + before + bytes, slack - before);
  return start + before;
}

int os_commit(void *start, size_t bytes) {
  if (os_linux_fault_due()) return -ENOMEM;
  return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -errno;
}

void *os_map(size_t bytes) {
  if (os_linux_fault_due()) return NULL;
  return map(bytes, PROT_READ | PROT_WRITE, 0);
}

/* To unmap the middle of a mapping makes one more of them, which the kernel refuses at its limit.  The memory is then
 * given back and only the addresses are lost. */
void os_unmap(void *start, size_t bytes) {
  if (munmap(start, bytes) == 0) return;
  CHECK(errno == ENOMEM, "cannot unmap %zu bytes at %p: %s", bytes, start, strerror(errno));
  os_release(start, bytes);
}

/* Memory that the program locked (mlockall) needs an advice of its own. */
int os_release(void *start, size_t bytes) {
  if (madvise(start, bytes, MADV_DONTNEED) == 0) return 0;
  if (errno == EINVAL && madvise(start, bytes, ADVICE_DONTNEED_LOCKED) == 0) return 0;
  return -errno;
}

void os_advise_huge(void *start, size_t bytes, bool huge) {
  madvise(start, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* MADV_POPULATE_WRITE would hold the lock of the whole address space, for milliseconds where huge pages come: every thread
 * that maps or protects anything meanwhile would wait.  Not checked, since checkers may have been told that nobody may
 * touch the pages (base/memcheck.h). */
NO_SANITIZE void os_populate(void *start, size_t bytes) {
  for (size_t i = 0; i < bytes; i += facts.page_bytes) {
    /* No read comes first: it would map the page of zeros, which the write then has all processors forget again.  To add
     * nothing would be a write too, but compilers make a read of it. */
    unsigned char *byte = (unsigned char *)start + i, seen = 0;
    while (!__atomic_compare_exchange_n(byte, &seen, seen, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
  }
}

int os_protect_none(void *start, size_t bytes) { return mprotect(start, bytes, PROT_NONE) == 0 ? 0 : -errno; }

/* Whether a guard was ever made by taking access away: then any guard may be of that sort.  Atomic. */
static bool guards_by_protection;

/* Older kernels refuse the advice, as all do for memory that the program locked; emulators let it pass and do nothing.  A
 * guard that is one cannot be faulted in. */
static int guard_by_advice(void *start, size_t bytes) {
  if (madvise(start, bytes, ADVICE_GUARD_INSTALL) != 0) return -errno;
  return madvise(start, bytes, ADVICE_POPULATE_READ) != 0 && errno == EFAULT ? 0 : -EINVAL;
}

int os_guard(void *start, size_t bytes) {
  if (os_linux_fault_due()) return -ENOMEM;
  int error = guard_by_advice(start, bytes);
  if (error != -EINVAL) return error;
  atomic_store_release(&guards_by_protection, true);
  error = os_protect_none(start, bytes);
  if (error == 0) os_release(start, bytes);
  return error;
}

int os_unguard(void *start, size_t bytes) {
  if (os_linux_fault_due()) return -ENOMEM;
  if (atomic_load_acquire(&guards_by_protection) && mprotect(start, bytes, PROT_READ | PROT_WRITE) != 0) return -errno;
  if (madvise(start, bytes, ADVICE_GUARD_REMOVE) == 0 || errno == EINVAL) return 0;
  return -errno;
}

/* /proc/self/statm opens with the mapped and the resident size in pages. */
static bool read_own_sizes(uint64_t *mapped_bytes, uint64_t *resident_bytes) {
  char text[128];
  const char *cursor = text;
  if (!read_text("/proc/self/statm", text, sizeof text)) return false;
  if (!parse_number(&cursor, mapped_bytes) || !parse_number(&cursor, resident_bytes)) return false;
  *mapped_bytes *= facts.page_bytes;
  *resident_bytes *= facts.page_bytes;
  return true;
}

uint64_t os_address_space_left_bytes(void) {
  struct rlimit limit;
  uint64_t mapped;
  uint64_t resident;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  if (!read_own_sizes(&mapped, &resident)) return limit.rlim_cur;
  return mapped < limit.rlim_cur ? limit.rlim_cur - mapped : 0;
}

uint64_t os_resident_bytes(void) {
  uint64_t mapped;
  uint64_t resident;
  return read_own_sizes(&mapped, &resident) ? resident : 0;
}

/* ---- time and processors ---- */

enum { NS_PER_SECOND = 1000000000 };

static uint64_t read_clock(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t os_now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t os_thread_cpu_ns(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

uint64_t os_process_cpu_ns(void) { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

uint64_t os_process_faults(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_minflt : 0;
}

unsigned os_processor_count(void) { return facts.processor_count; }

/* ---- waiting (base/wait.h) ----
 *
 * Every failure of a futex call (the word differs, a signal came, the time is over) means the same to the caller: look
 * at the word again.  A suspended thread waits in a signal handler, hence NO_SANITIZE (see take_suspend_signal).
 *
 * errno stays what it was: programs allocate between a call that failed and their look at why. */

static NO_SANITIZE void call_futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
  int saved_errno = errno;
  syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
  errno = saved_errno;
}

NO_SANITIZE void wait_on_word(uint32_t *word, uint32_t expected) {
  call_futex(word, FUTEX_WAIT_PRIVATE, expected, NULL);
}

NO_SANITIZE void wait_on_word_for(uint32_t *word, uint32_t expected, uint64_t timeout_ns) {
  struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
                             .tv_nsec = (long)(timeout_ns % NS_PER_SECOND)};
  call_futex(word, FUTEX_WAIT_PRIVATE, expected, &timeout);
}

NO_SANITIZE void wake_one(uint32_t *word) { call_futex(word, FUTEX_WAKE_PRIVATE, 1, NULL); }

NO_SANITIZE void wake_all(uint32_t *word) { call_futex(word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL); }

void wait_yield(void) { sched_yield(); }

enum { KEEPS_DIVISOR = 3 };

void wait_give_way(struct wait_manners *manners) {
  uint64_t before_ns = os_now_ns();
  if (before_ns < manners->keeps_until_ns) return;
  sched_yield();
  uint64_t after_ns = os_now_ns();
  manners->keeps_until_ns = after_ns + (after_ns - before_ns) / KEEPS_DIVISOR;
}

/* ---- faults on purpose ---- */

/* Calls until the next failure, that one included; 0 is off.  Atomic. */
static uint32_t fault_countdown;

/* Whether the countdown stays at 1 once it is there.  Atomic. */
static bool fault_forever;

void os_fail_after(uint32_t nth, bool forever) {
  atomic_store_relaxed(&fault_forever, forever);
  atomic_store_relaxed(&fault_countdown, nth);
}

static COLD bool count_down_to_fault(void) {
  uint32_t left = atomic_load_relaxed(&fault_countdown);
  while (left != 0) {
    if (left == 1 && atomic_load_relaxed(&fault_forever)) return true;
    if (atomic_cas_relaxed(&fault_countdown, &left, left - 1)) return left == 1;
  }
  return false;
}

bool os_linux_fault_due(void) {
  if (LIKELY(atomic_load_relaxed(&fault_countdown) == 0)) return false;
  return count_down_to_fault();
}
