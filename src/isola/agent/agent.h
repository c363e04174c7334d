/* The guest agent: one process that serves one host over one stream of bytes. See PROTOCOL.md. */
#ifndef ISOLA_AGENT_H
#define ISOLA_AGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AGENT_VERSION "1"
#define PROTOCOL_VERSION 1
#define HEADER_SIZE 16
#define MAX_REQUEST (1u << 20)
#define MAX_DATA (64u << 10)
#define WINDOW (256u << 10)
#define MAX_PENDING (1u << 20) /* bytes for the host: beyond it no more output of programs is read */
#define MAX_JOBS 512
#define MAX_SYMLINKS 40
#define MAX_POLL (16 + 8 * MAX_JOBS)

enum frame_type {
    FRAME_HELLO, FRAME_REQUEST, FRAME_ANSWER, FRAME_ERROR, FRAME_DATA, FRAME_END,
    FRAME_CREDIT, FRAME_EXIT, FRAME_SIGNAL, FRAME_RESIZE, FRAME_CLOSE
};

enum method {
    METHOD_PING = 1, METHOD_PREPARE, METHOD_EXEC, METHOD_START, METHOD_WORKER, METHOD_STATS, METHOD_INTERFACES,
    METHOD_CONFIGURE, METHOD_PROCESSES, METHOD_SIGNAL, METHOD_STOP, METHOD_CLOCK, METHOD_IDENTITY, METHOD_POWER,
    METHOD_RESIZE
};

/* --- values (body.c) ------------------------------------------------------------------------------------------ */

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad; /* something was missing or malformed; all that was read after it is empty */
};

uint8_t get_u8(struct reader *r);
uint16_t get_u16(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
const uint8_t *get_bytes(struct reader *r, size_t size);
char *get_text(struct reader *r);            /* allocated; never NULL; a text with NUL is malformed */
size_t get_count(struct reader *r, size_t least); /* of a list whose items have at least so many bytes */
char **get_texts(struct reader *r);          /* allocated, ends with NULL */
bool all_read(struct reader *r);             /* nothing missing and nothing left over */

struct buffer {
    uint8_t *data;
    size_t size, room;
};

void put_raw(struct buffer *b, const void *data, size_t size);
void put_u8(struct buffer *b, uint8_t value);
void put_u16(struct buffer *b, uint16_t value);
void put_u32(struct buffer *b, uint32_t value);
void put_u64(struct buffer *b, uint64_t value);
void put_text(struct buffer *b, const char *text);
void put_bytes(struct buffer *b, const void *data, size_t size);
void drop_front(struct buffer *b, size_t size);
void clear(struct buffer *b);
void set_u32(struct buffer *b, size_t at, uint32_t value);

void *allocate(size_t size);
void *reallocate(void *old, size_t size);
char *copy_text(const char *text);
void free_texts(char **texts);

/* --- the connection (frame.c) --------------------------------------------------------------------------------- */

void frame_input(const uint8_t *data, size_t size); /* bytes that have arrived */
void send_frame(uint32_t stream, enum frame_type type, uint8_t channel, const void *payload, size_t size);
void send_error(uint32_t stream, int error, const char *what);
bool connected(void);
void disconnected(void); /* the transport has hung up */
extern struct buffer outgoing;

/* --- requests (request.c) ------------------------------------------------------------------------------------- */

void handle_request(uint32_t stream, const uint8_t *payload, size_t size);

/* --- programs (command.c, job.c) ------------------------------------------------------------------------------ */

struct limit {
    uint32_t resource;
    uint64_t soft, hard;
};

struct command {
    char **argv, **environment, *cwd;
    uint32_t uid, gid;
    gid_t *groups;
    size_t group_count;
    bool terminal;
    uint16_t columns, rows;
    /* of the first process only */
    int64_t mask;
    struct limit *limits;
    size_t limit_count;
    bool make_cwd;
};

void read_command(struct reader *r, struct command *c);
void free_command(struct command *c);
void inherit_limits(struct command *c); /* those of the first process */
/* In the child. Returns only if it fails: then *stage says where, and the result is an errno. */
int execute(const struct command *c, const char **stage);

struct job {
    struct job *next;
    uint32_t stream; /* 0: it has none, or not any more */
    pid_t pid;       /* 0: has been reaped */
    bool terminal;
    bool closing;    /* the host has closed the stream */
    bool exited;
    bool worker;
    int status;
    int refusal_fd;
    int input, output[2]; /* -1: closed; with a terminal input and output[0] are the same */
    struct buffer waiting; /* for the input */
    bool input_ended;
    uint32_t granted;      /* input that the host may still send */
    uint32_t taken;        /* input that was written since the last credit */
    uint32_t credit[2];    /* output that the host accepts */
    bool ended[2];
};

extern struct job *jobs;
struct job *find_job(uint32_t stream);
int start_job(uint32_t stream, struct command *c, int worker_root, struct job **made); /* worker_root: -1 a command */
void job_data(struct job *job, const uint8_t *data, size_t size);
void job_end_input(struct job *job);
void job_credit(struct job *job, uint8_t channel, uint32_t more);
void job_signal(struct job *job, int number);
void job_resize(struct job *job, uint16_t columns, uint16_t rows);
void job_close(struct job *job);
void close_all_jobs(void);
size_t poll_jobs(struct pollfd *polls);
void serve_jobs(const struct pollfd *polls, size_t count);
bool reap_job(pid_t pid, int status);

/* --- the first process (first.c, plan.c, mounts.c) ------------------------------------------------------------ */

struct mount {
    char *source, *target, *kind, *options;
    uint32_t flags;
};

struct run_file {
    char *path;
    uint32_t mode;
    const uint8_t *data;
    size_t size;
};

struct device {
    char *path;
    uint8_t kind;
    uint32_t major, minor, mode, uid, gid;
};

struct setting {
    char *name, *value;
};

#define PLAN_SYSTEM 1
#define PLAN_POWER_OFF 8

struct plan {
    struct command command;
    uint8_t flags;
    uint32_t stop_signal;
    char *hostname;
    struct mount root, *mounts;
    size_t mount_count;
    struct run_file *files;
    size_t file_count;
    struct setting *sysctls;
    size_t sysctl_count;
    struct device *devices;
    size_t device_count;
    char *console, *input, *error; /* devices; empty: none */
    uint8_t *body;                 /* what the files' contents are part of */
};

enum first_state { FIRST_WAITING, FIRST_RUNNING, FIRST_ENDED };
extern enum first_state first_state;
extern uint32_t first_status;
extern pid_t first_pid;
extern bool system_image;
extern int guest_root; /* descriptor of its root directory, -1: our own */
extern int proc_fd;
extern bool is_init;

int read_plan(const uint8_t *body, size_t size, struct plan *plan);
void free_plan(struct plan *plan);
int prepare_first(const uint8_t *body, size_t size, char *why, size_t room);
int start_first(char *why, size_t room);
int stop_first(void);
void resize_first(uint16_t columns, uint16_t rows);
bool reap_first(pid_t pid, int status);
size_t poll_first(struct pollfd *polls);
void serve_first(const struct pollfd *polls, size_t count);
int first_timeout(void); /* ms until something is to be done, -1: nothing */
bool may_enter(void);

int mount_one(const char *above, const struct mount *mount);
int follow_link(char *path, size_t room, const char *link); /* where a link at the end of the path leads */
int make_directories(char *path);
int make_mount_point(char *path, bool file);
int set_sysctl(const char *name, const char *value);
void protect(bool own); /* from the kernel's choice of what to kill without memory */
uint64_t oom_kills(void);
int enter_guest(void); /* in a child: into the namespaces and the root of the guest */

/* --- the machine (boot.c, report.c, network.c) ---------------------------------------------------------------- */

void boot(void);
void power(bool reboot);
void report_stats(struct buffer *b);
void report_processes(struct buffer *b);
int report_interfaces(struct buffer *b);
int configure(struct reader *r);
int set_identity(struct reader *r);

/* --- workers (worker.c, files.c, entries.c, draft.c) ---------------------------------------------------------- */

#define ERROR_NOT_REGULAR 65536
#define ERROR_PSEUDO 65537
#define MAX_WORK (320u << 10)
#define MAX_WORK_ANSWER (512u << 10)
#define MAX_READ (256u << 10)

_Noreturn void serve_worker(void);
int work_files(uint16_t operation, struct reader *r, struct buffer *answer);
int work_changes(uint16_t operation, struct reader *r, struct buffer *answer);
int work_system(uint16_t operation, struct reader *r, struct buffer *answer);
int freeze_all(bool freeze, uint32_t *count);

/* --- small things (body.c) ------------------------------------------------------------------------------------ */

void set_blocking(int fd, bool blocking);
void close_fd(int *fd);
ssize_t read_file(const char *path, char *data, size_t room); /* below /proc; with a NUL at the end */
uint64_t now_ms(void);

#endif
