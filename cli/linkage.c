#define _GNU_SOURCE
#include "linkage.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "dropin.h"

/* ---- the program's file ---- */

static bool is_program(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* The file that execvp would run. */
static bool find_program(const char *name, char path[PATH_MAX]) {
  if (strchr(name, '/') != NULL) return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && is_program(path);
  const char *folders = getenv("PATH");
  if (folders == NULL) folders = "/bin:/usr/bin";
  for (;;) {
    int length = (int)strcspn(folders, ":");
    /* An empty entry stands for the current folder. */
    int written = snprintf(path, PATH_MAX, "%.*s/%s", length > 0 ? length : 1, length > 0 ? folders : ".", name);
    if (written < PATH_MAX && is_program(path)) return true;
    if (folders[length] == '\0') return false;
    folders += length + 1;
  }
}

static bool read_at(int file, void *to, size_t bytes, off_t offset) {
  return pread(file, to, bytes, offset) == (ssize_t)bytes;
}

/* This command's own, where the linker has put it. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

/* NULL where the header is that of a program which this machine's loader can list; else what is in the way. */
static const char *judge_header(const ElfW(Ehdr) * header) {
  if (memcmp(header->e_ident, "#!", 2) == 0) return "it is a script";
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return "it is no ELF file";
  bool is_alike =
      header->e_ident[EI_CLASS] == __ehdr_start.e_ident[EI_CLASS] && header->e_machine == __ehdr_start.e_machine;
  return is_alike ? NULL : "it is for another kind of machine";
}

/* The loader that the program names; an empty string where it is linked statically. */
static bool read_interpreter(int file, const ElfW(Ehdr) * header, char interpreter[PATH_MAX]) {
  interpreter[0] = '\0';
  for (unsigned i = 0; i < header->e_phnum; i++) {
    ElfW(Phdr) segment;
    if (!read_at(file, &segment, sizeof segment, (off_t)(header->e_phoff + i * sizeof segment))) return false;
    if (segment.p_type != PT_INTERP) continue;
    if (segment.p_filesz == 0 || segment.p_filesz > PATH_MAX) return false;
    if (!read_at(file, interpreter, segment.p_filesz, (off_t)segment.p_offset)) return false;
    interpreter[segment.p_filesz - 1] = '\0';
    return true;
  }
  return true;
}

/* Whose a program is once it runs: the file's, where it is so marked and that is allowed. */
static bool changes_user(int file, const struct stat *status) {
  struct statvfs system;
  bool may =
      fstatvfs(file, &system) == 0 && (system.f_flag & ST_NOSUID) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0;
  mode_t group = S_ISGID | S_IXGRP; /* the one without the other is no request for the group */
  uid_t user = may && (status->st_mode & S_ISUID) != 0 ? status->st_uid : geteuid();
  gid_t users = may && (status->st_mode & group) == group ? status->st_gid : getegid();
  return user != getuid() || users != getgid();
}

/* As the kernel sees it, and tells the loader (AT_SECURE): root has other privileges too where it runs a program of another user. */
static bool runs_privileged(int file) {
  struct stat status;
  if (fstat(file, &status) != 0) return false;
  return changes_user(file, &status) || (getuid() != 0 && fgetxattr(file, "security.capability", NULL, 0) > 0);
}

/* As judge_header, for the open file; fills in the loader. */
static const char *judge_file(int file, char interpreter[PATH_MAX]) {
  ElfW(Ehdr) header = {0};
  if (pread(file, &header, sizeof header, 0) < SELFMAG) return "it cannot be read";
  const char *reason = judge_header(&header);
  if (reason != NULL) return reason;
  if (runs_privileged(file)) return "it runs with other privileges, so that the loader ignores LD_LIBRARY_PATH";
  return read_interpreter(file, &header, interpreter) ? NULL : "its program headers cannot be read";
}

/* ---- the loader's list ---- */

/* In the child: becomes the loader, which lists the program's libraries on `output`. */
static _Noreturn void become_loader(const char *interpreter, const char *program, int output) {
  int null = open("/dev/null", O_RDWR);
  output = fcntl(output, F_DUPFD, STDERR_FILENO + 1); /* dup2 to itself would leave it to be closed by exec */
  dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(null, STDERR_FILENO);
  unsetenv("LD_DEBUG");
  execl(interpreter, interpreter, "--list", program, (char *)NULL);
  _exit(127);
}

/* From a line "\tlibgc.so.1 => /path (0x...)", the path; or "\t/path/libgc.so.1 (0x...)", where it is named by that (LD_PRELOAD). */
static bool parse_line(const char *line, char path[PATH_MAX]) {
  line += strspn(line, " \t");
  const char *end = strstr(line, " (0x"), *arrow = strstr(line, " => ");
  if (end == NULL) end = line + strcspn(line, "\n");
  const char *name_end = arrow != NULL ? arrow : end, *name = name_end;
  while (name > line && name[-1] != '/') name--;
  if (name_end - name != sizeof DROPIN_NAME - 1 || strncmp(name, DROPIN_NAME, sizeof DROPIN_NAME - 1) != 0)
    return false;
  if (arrow != NULL) line = arrow + 4;
  if (end < line || end - line >= PATH_MAX) return false;
  memcpy(path, line, (size_t)(end - line));
  path[end - line] = '\0';
  return true;
}

/* Reads the list to its end; true if the library is in it. */
static bool read_list(int input, char path[PATH_MAX]) {
  FILE *list = fdopen(input, "r");
  char *line = NULL;
  size_t capacity = 0;
  bool found = false;
  if (list == NULL) {
    close(input);
    return false;
  }
  while (getline(&line, &capacity, list) >= 0) found = parse_line(line, path) || found;
  free(line);
  fclose(list);
  return found;
}

/* False where the loader could not list the program's libraries. */
static bool ask_loader(const char *interpreter, const char *program, char path[PATH_MAX], bool *found) {
  int ends[2], status;
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  /* Where it is ignored, which programs inherit, nobody is told how a child ended. */
  void (*inherited)(int) = signal(SIGCHLD, SIG_DFL);
  pid_t child = fork();
  if (child == 0) become_loader(interpreter, program, ends[1]);
  close(ends[1]);
  if (child > 0) *found = read_list(ends[0], path);
  if (child < 0) close(ends[0]);
  bool listed = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  signal(SIGCHLD, inherited);
  return listed;
}

static bool is_dropin(const char *path, const char *folder) {
  char dropin[PATH_MAX];
  struct stat a, b;
  int length = snprintf(dropin, sizeof dropin, "%s/" DROPIN_NAME, folder);
  if (length < 0 || (size_t)length >= sizeof dropin) return false;
  return stat(path, &a) == 0 && stat(dropin, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

struct linkage_answer linkage_of(const char *program, const char *dropin_folder) {
  struct linkage_answer answer = {.linkage = LINKAGE_UNKNOWN};
  char path[PATH_MAX], interpreter[PATH_MAX];
  if (!find_program(program, path)) return answer;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  answer.reason = file < 0 ? "it cannot be read" : judge_file(file, interpreter);
  if (file >= 0) close(file);
  if (answer.reason != NULL) return answer;

  bool found = false;
  if (interpreter[0] != '\0' && !ask_loader(interpreter, path, answer.path, &found)) {
    answer.reason = "the loader does not list its libraries";
    return answer;
  }
  answer.linkage = !found ? LINKAGE_NONE : is_dropin(answer.path, dropin_folder) ? LINKAGE_DROPIN : LINKAGE_OTHER;
  return answer;
}
