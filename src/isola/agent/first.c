/* The first process of the guest. Of an application image we are PID 1 ourselves, and its program is our child; of a
 * system image PID 1 becomes its init, and we are a process beside it, in a mount namespace of our own. In a system that
 * runs already we are one of its services. */
#include "agent.h"
#include "first.h"
#include "mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FILES 256
#define DRAIN_MS 1000

enum first_state first_state = FIRST_WAITING;
uint32_t first_status;
pid_t first_pid;
bool system_image;
const char *scratch = "/files";

static struct plan plan;
static bool prepared;
static int init_socket = -1; /* of a system image: to the process that becomes its init */
static uint64_t ended_at;
static bool reported;

bool may_enter(void) {
    return first_state == FIRST_RUNNING || (prepared && !system_image && first_state == FIRST_WAITING);
}

static int prepare_root(char *why, size_t room) {
    int fds[MAX_FILES];
    if (plan.file_count > MAX_FILES)
        return E2BIG;
    int error = make_files(&plan, fds, scratch);
    if (error)
        return error;
    error = enter_root(&plan.root, why, room);
    if (!error)
        error = fill_root(&plan, why, room);
    if (!error)
        error = put_files(&plan, fds, why, room);
    if (!error && *plan.hostname && sethostname(plan.hostname, strlen(plan.hostname)) < 0)
        error = errno;
    if (!error && *plan.root.kind && (plan.root.flags & MS_RDONLY))
        error = mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? errno : 0;
    return error;
}

/* --- system images ---------------------------------------------------------------------------------------------- */

static int open_console(int *master, int *slave) {
    if (!*plan.console)
        return 0;
    if (plan.console[0] == '/') {
        *slave = open_device(plan.console, O_RDWR | O_NOCTTY);
        return *slave < 0 ? errno : 0;
    }
    int error = open_pair_of_terminal(master, slave);
    if (!error)
        set_window(*master, plan.command.columns, plan.command.rows);
    return error ? error : bind_console(*master);
}

static _Noreturn void become_init(int fd) {
    char why[512] = "", go;
    if (read(fd, &go, 1) != 1) /* the agent has its own mount namespace now */
        fail_init(fd, NULL);
    int error = prepare_root(why, sizeof(why));
    int master = -1, console = -1;
    if (!error)
        error = open_console(&master, &console);
    if (error && !*why)
        snprintf(why, sizeof(why), "%s", strerror(error));
    if (send_text(fd, why, master) || error || read(fd, &go, 1) != 1)
        fail_init(fd, NULL);
    close_fd(&master);
    const char *stage = "terminal";
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (console >= 0) {
        ioctl(console, TIOCSCTTY, 1);
        for (int standard = 0; standard < 3; standard++)
            dup2(console, standard);
    }
    error = execute(&plan.command, &stage);
    snprintf(why, sizeof(why), "%s: %s", stage, strerror(error));
    fail_init(fd, why);
}

static int prepare_system(char *why, size_t room) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return errno;
    pid_t agent = fork();
    if (agent < 0) {
        close(pair[0]);
        close(pair[1]);
        return errno;
    }
    if (agent > 0) {
        close(pair[0]);
        become_init(pair[1]);
    }
    close(pair[1]);
    setsid();
    init_socket = pair[0];
    system_image = true;
    protect(true);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || write(pair[0], "n", 1) != 1)
        return errno;
    ssize_t size = receive_text(init_socket, why, room, &console_master);
    if (size != 1 || *why)
        return EIO;
    return console_master < 0 ? 0 : relay_console(plan.console, console_master);
}

static int start_system(char *why, size_t room) {
    if (write(init_socket, "g", 1) != 1)
        return errno;
    ssize_t size = read(init_socket, why, room - 1);
    why[size > 0 ? size : 0] = 0;
    close_fd(&init_socket);
    if (size > 0)
        return ENOEXEC;
    first_pid = 1;
    first_state = FIRST_RUNNING;
    return 0;
}

void join_system(void) {
    prepared = true;
    system_image = true;
    protect(true);
    first_pid = 1;
    first_state = FIRST_RUNNING;
}

/* --- both ------------------------------------------------------------------------------------------------------- */

int prepare_first(const uint8_t *body, size_t size, char *why, size_t room) {
    if (prepared || jobs)
        return EBUSY;
    int error = read_plan(body, size, &plan);
    if (error) {
        free_plan(&plan);
        snprintf(why, room, "a malformed plan");
        return error;
    }
    prepared = true; /* also if it fails: what is mounted stays */
    bool system = plan.flags & PLAN_SYSTEM;
    if (system && !is_init)
        return EPERM;
    return system ? prepare_system(why, room) : prepare_root(why, room);
}

int start_first(char *why, size_t room) {
    if (!prepared || first_state != FIRST_WAITING)
        return EBUSY;
    if (system_image)
        return start_system(why, room);
    int error = start_program(&plan, &first_pid);
    if (!error)
        first_state = FIRST_RUNNING;
    return error;
}

void inherit_limits(struct command *c) {
    size_t size = plan.command.limit_count * sizeof(*c->limits);
    if (c->limit_count || !size)
        return;
    c->limits = allocate(size);
    memcpy(c->limits, plan.command.limits, size);
    c->limit_count = plan.command.limit_count;
}

int stop_first(void) {
    char name[32];
    if (first_state != FIRST_RUNNING)
        return ESRCH;
    if (!system_image)
        return kill(first_pid, (int)plan.stop_signal) < 0 ? errno : 0;
    if (read_file("1/comm", name, sizeof(name)) > 0 && strcmp(name, "systemd\n") == 0)
        return kill(1, SIGRTMIN + 4) < 0 ? errno : 0;
    struct command c = {.mask = -1};
    struct job *job;
    c.argv = allocate(2 * sizeof(char *));
    c.argv[0] = copy_text("poweroff");
    c.environment = allocate(sizeof(char *));
    c.cwd = copy_text("/");
    int error = start_job(0, &c, -1, &job);
    free_command(&c);
    if (!error)
        job_close_streams(job);
    return error;
}

void resize_first(uint16_t columns, uint16_t rows) {
    if (console_master >= 0) {
        set_window(console_master, columns, rows);
        return;
    }
    int fd = plan.console && plan.console[0] == '/' ? open_device(plan.console, O_RDWR | O_NONBLOCK | O_NOCTTY) : -1;
    if (fd >= 0)
        set_window(fd, columns, rows);
    close_fd(&fd);
}

bool reap_first(pid_t pid, int status) {
    if (system_image || first_state != FIRST_RUNNING || pid != first_pid)
        return false;
    first_status = (uint32_t)program_status(status);
    first_state = FIRST_ENDED;
    ended_at = now_ms();
    return true;
}

static void report_end(void) {
    struct buffer body = {0};
    char text[64] = "";
    uint64_t killed = oom_kills();
    reported = true;
    put_u32(&body, first_status);
    put_text(&body, program_refusal());
    send_frame(0, FRAME_EXIT, 0, body.data, body.size);
    clear(&body);
    flush_program();
    if (killed)
        snprintf(text, sizeof(text), "oom %llu\n", (unsigned long long)killed);
    snprintf(text + strlen(text), sizeof(text) - strlen(text), "exit %u\n", first_status);
    int fd = open_device("org.isola.status", O_WRONLY);
    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        perror("status");
    close_fd(&fd);
    if (plan.flags & PLAN_POWER_OFF)
        power(false);
}

int first_timeout(void) {
    if (first_state != FIRST_ENDED || reported)
        return relay_timeout();
    uint64_t passed = now_ms() - ended_at;
    return passed >= DRAIN_MS ? 0 : (int)(DRAIN_MS - passed);
}

size_t poll_first(struct pollfd *polls) {
    return poll_relays(polls);
}

void serve_first(const struct pollfd *polls, size_t count) {
    serve_relays(polls, count);
    if (first_state == FIRST_ENDED && !reported && (program_drained() || now_ms() - ended_at >= DRAIN_MS))
        report_end();
}
