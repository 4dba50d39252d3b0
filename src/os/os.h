/* Everything that midden asks of the operating system.  One file per system implements it (os_linux.c); no other file
 * makes a system call or includes a system header for more than types.
 *
 * Errors are 0 or negative errno; functions that return memory return NULL.  Unless it says otherwise a function takes
 * no lock of the C library and allocates nothing, so that it may be called while the world is stopped.
 *
 * base/wait.h (sleeping and waking) is implemented here too. */
#ifndef MIDDEN_OS_OS_H
#define MIDDEN_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os_range {
  uintptr_t start;
  uintptr_t end; /* one past the last byte */
};

/* ---- start ---- */

/* Asks the loader for what os_init wants to know of the C library; any thread, again and again.  The loader's lock may be held by a thread
 * that is in the midst of dlopen, and runs constructors, which may use the library: so whoever asks holds no lock of ours. */
void os_ask_loader(void);

/* Reads what never changes (page size, processors, C library facts).  Called once, before anything else here but os_ask_loader, which it
 * calls where nobody has; may allocate and take locks. */
void os_init(void);

/* ---- memory ---- */

/* The kernel's page size in bytes, a power of two. */
size_t os_page_bytes(void);

/* The size of a huge page in bytes, or 0 where there are none to be had. */
size_t os_huge_page_bytes(void);

/* Reserves address space, inaccessible and unaccounted, aligned to `alignment` (a power of two, at least a page). */
void *os_reserve(size_t bytes, size_t alignment);

/* Makes reserved memory readable and writable; it reads as zero.  -ENOMEM where the system refuses. */
int os_commit(void *start, size_t bytes);

/* Maps fresh zeroed memory, or NULL. */
void *os_map(size_t bytes);

/* Gives an os_map or os_reserve range back, whole or in part. */
void os_unmap(void *start, size_t bytes);

/* Returns the memory behind whole OS pages to the system; the addresses stay usable and read as zero. */
int os_release(void *start, size_t bytes);

/* Advises that a range be backed by huge pages, or no longer.  A refusal is of no consequence. */
void os_advise_huge(void *start, size_t bytes, bool huge);

/* Faults committed pages in ahead of their use; what they hold stays. */
void os_populate(void *start, size_t bytes);

/* Takes access away from a range, for guard pages. */
int os_protect_none(void *start, size_t bytes);

/* Makes whole OS pages a guard: any access to them faults, their contents are gone.  And makes them ordinary pages again,
 * which read as zero.  Where the kernel can (Linux 6.13) a guard costs no mapping of its own, of which a process may have
 * some 65,000.  A child inherits guards.  0 or -errno, nothing changed. */
int os_guard(void *start, size_t bytes);
int os_unguard(void *start, size_t bytes);

/* Memory that this process may use: the machine's or its control group's, in bytes. */
uint64_t os_physical_memory_bytes(void);

/* Address space that this process may still map (RLIMIT_AS less what is mapped), or UINT64_MAX. */
uint64_t os_address_space_left_bytes(void);

/* Resident memory of this process in bytes, or 0 where unknown. */
uint64_t os_resident_bytes(void);

/* ---- time ---- */

uint64_t os_now_ns(void);         /* monotonic */
uint64_t os_thread_cpu_ns(void);  /* processor time of the calling thread */
uint64_t os_process_cpu_ns(void); /* and of all threads of the process, those that ended included */
uint64_t os_process_faults(void); /* page faults of all these threads, for which nothing was read */

/* ---- processors and threads ---- */

/* Processors that this process may run on, at least 1. */
unsigned os_processor_count(void);

/* The kernel's name for the calling thread. */
uint32_t os_thread_id(void);

/* Sends a signal to one thread of this process; 0 only asks.  -ESRCH where it has ended. */
int os_signal_thread(uint32_t thread_id, int signal);

/* The calling thread's stack as the C library sees it.  May allocate and take locks.  -errno where it is unknown. */
int os_current_stack(struct os_range *stack);

/* The part of a thread's stack that may be read.  The first thread's is mapped as it grows; how far it may can change. */
struct os_range os_mapped_stack(struct os_range stack);

/* Whether a stack reaches down to an address below where it began: that of the process's first thread grows as far as its limit
 * allows, which the program may have raised. */
bool os_stack_reaches(struct os_range stack, uintptr_t address);

/* The calling thread's alternate signal stack, empty if it has none, and whether it runs on that. */
struct os_range os_alternate_stack(bool *in_use);

/* The calling thread's thread pointer, which names its thread-local storage to os_visit_thread_storage. */
uintptr_t os_thread_pointer(void);

/* What the C library calls the calling thread (pthread_self), as a number. */
uintptr_t os_thread_handle(void);

/* Where a thread of the library's own may run; zeros at first.  One thread at a time uses it. */
enum { OS_PROCESSORS_MAX = 1024 };
struct os_placement {
  uint64_t allowed[OS_PROCESSORS_MAX / 64]; /* by whoever looks after such things: the program, its user */
  uint64_t set[OS_PROCESSORS_MAX / 64];     /* by us */
  unsigned avoided;                         /* one more than the number of a processor; 0: none */
};

/* Has such a thread, which sleeps, wake up on another processor than the caller's, if it may run on another.  A system may take a
 * processor that sleeps for a busy one (virtual machines do), and have two threads share one instead. */
void os_place_elsewhere(uint32_t thread_id, struct os_placement *placement);

/* Takes that back. */
void os_place_anywhere(uint32_t thread_id, struct os_placement *placement);

/* Starts a thread of the library itself: detached, every signal blocked, `name` of at most 15 characters shown by the
 * system's tools.  May allocate and take locks. */
int os_start_thread(void (*run)(void *argument), void *argument, const char *name);

/* The same for one that runs functions of the program, which may want a stack as large as its own threads have. */
int os_start_program_thread(void (*run)(void *argument), void *argument, const char *name);

/* Tells the scheduler that the calling thread is in no hurry: it takes no processor from another thread when it wakes up.
 * A refusal is of no consequence. */
void os_be_patient(void);

/* Asks for short turns at the processor, for a thread that works beside others: one of those that wakes up need not wait
 * for the end of a turn of milliseconds.  Its share of the processor is as before.  Linux 6.12; a refusal is of no
 * consequence. */
void os_take_short_turns(void);

/* Has every thread of the process pass a full barrier of memory: when it returns, each has stored what it stored before some
 * moment in the call, for others to see, and loads anew after it.  Interrupts those processors only on which they run.  0 or
 * -errno.  The first call takes 20 ms and more, where several threads run. */
int os_order_threads(void);

/* Calls `function` with the callee-saved registers stored above `stack_pointer`, in memory that lies in the calling
 * thread's stack: who scans from stack_pointer to the stack's base sees every value that the caller may still use. */
void os_call_with_registers(void (*function)(uintptr_t stack_pointer, void *argument), void *argument);

/* The return addresses of the calling thread's frames, the innermost first; how many there are.  Needs no frame pointers.
 * The first call may allocate, load a library and take locks, any may take the loader's lock: not in critical sections, not
 * while the world is stopped, not in a signal handler. */
size_t os_call_stack(uintptr_t *frames, size_t capacity);

/* Has `function` called with `argument` when the calling thread ends, in that thread; NULL argument takes that back.  One
 * function for the whole process. */
int os_on_thread_exit(void (*function)(void *argument), void *argument);

/* ---- the suspend signal ---- */

/* Where a thread that took the signal was.  All its registers lie between stack_pointer and its stack's base. */
struct os_interruption {
  uintptr_t stack_pointer;
  uintptr_t interrupted_stack_pointer; /* where the stack of the interrupted code ended */
  struct os_range alternate_stack;     /* where the thread ran on its alternate signal stack; else empty */
};

/* Whether a program may install a handler for the signal, and none of its own is needed for faults. */
bool os_can_suspend_by(int signal);

/* Installs `handler` for such a `signal`, system calls restarted.  errno is kept around the call.  The handler runs in the
 * interrupted thread, on the stack that it was using; after it what was installed before, all signals blocked, unless a
 * thread of this process sent the signal.  0; -EINVAL for another signal; -errno. */
int os_install_suspend_handler(int signal, void (*handler)(const struct os_interruption *interruption));

/* Installs that handler again where the program has put another in its place, or none, which is called as above; and whether it had to. */
bool os_keep_suspend_handler(int signal);

/* The signal that suits best where the user named none. */
int os_default_suspend_signal(void);

/* Blocks every signal for the calling thread but those of its own faults; and puts back what was blocked before. */
struct os_signals {
  uint64_t words[16];
};
void os_block_signals(struct os_signals *before);
void os_restore_signals(const struct os_signals *before);

/* From here on the calling thread is not cancelled, until what this returned is restored. */
int os_forbid_cancellation(void);
void os_restore_cancellation(int before);

/* Makes sure that the calling thread does not block `signal`. */
void os_unblock_signal(int signal);

/* ---- loaded objects and their data ---- */

enum { OS_MODULE_RANGES = 8 };

/* An object's thread-local storage, as the loader knew it when it was visited. */
struct os_tls_module {
  size_t module;      /* its number, which another one may get when it is closed; 0: it has none */
  size_t bytes;       /* of its block in each thread */
  size_t generation;  /* 0: of the program's start, or it is just being opened */
  const void *object; /* the loader's */
};

struct os_module {
  const char *name;                       /* path, "" for the program itself; valid during the visit */
  struct os_range data[OS_MODULE_RANGES]; /* writable data that stays writable */
  size_t data_count;
  struct os_tls_module tls;
  bool is_self; /* the object that holds this library's own code */
};

/* Calls `begin` once with a number that changes whenever the set of loaded objects does; if that returns true, calls
 * `visit` for each of them.  No object can be loaded or unloaded from the moment `begin` is called until this returns.
 * Takes the loader's lock: when it returns with the world stopped by `begin`, no stopped thread holds that lock. */
void os_visit_modules(bool (*begin)(void *argument, uint64_t generation),
                      void (*visit)(void *argument, const struct os_module *module), void *argument);

/* Visits the thread-local storage of a thread of this process that stands still: the control block, which holds
 * pthread_setspecific values, and the block of each of `modules` that the thread has touched.  These are what is loaded now; or,
 * `running`, what was loaded before: then modules that are not what they were are passed over, and it returns false. */
bool os_visit_thread_storage(uintptr_t thread_pointer, const struct os_tls_module *modules, size_t count, bool running,
                             void (*visit)(void *argument, struct os_range range), void *argument);

/* ---- processes ---- */

uint32_t os_process_id(void);

/* Has `function` called when the process exits by itself.  0 or -ENOMEM. */
int os_at_exit(void (*function)(void));

/* As pthread_atfork. */
int os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/* ---- files that the library writes ----
 *
 * No thread is cancelled in these calls, and no signal comes of them: -EFBIG where a file may not grow as large. */

/* The absolute form of a path.  0; -ENAMETOOLONG where it does not fit; -errno. */
int os_absolute_path(const char *path, char *absolute, size_t capacity);

/* Creates or empties a file.  0 or -errno. */
int os_create_file(const char *path);

/* Writes all of it at `offset` of a file that exists.  The file is open during the call only: a program may close every
 * descriptor that it does not know.  0 or -errno. */
int os_write_file(const char *path, const void *data, size_t bytes, uint64_t offset);

/* Whether a file that can be asked for its length has this one; true of others. */
bool os_file_has_length(const char *path, uint64_t bytes);

/* Writes what is mapped where, in the text form of the system, at `offset` of a file that exists.  0 or -errno. */
int os_write_mappings(const char *path, uint64_t offset);

/* ---- faults on purpose ---- */

/* Tests: the call of os_commit, os_map, os_reserve, os_guard, os_unguard, os_start_thread, or of os_dirty.h (but for close,
 * check and forked) that is the nth from now fails, and each later one where `forever`.  0 ends it. */
void os_fail_after(uint32_t nth, bool forever);

#endif
