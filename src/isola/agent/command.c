/* A program with its arguments, environment and ids: read from a request, and executed in a child. */
#include "agent.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_GROUPS 1024
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void read_command(struct reader *r, struct command *c) {
    *c = (struct command){.mask = -1};
    c->argv = get_texts(r);
    c->environment = get_texts(r);
    c->cwd = get_text(r);
    c->uid = get_u32(r);
    c->gid = get_u32(r);
    c->group_count = get_count(r, 4);
    if (c->group_count > MAX_GROUPS)
        r->bad = true;
    c->groups = allocate(c->group_count * sizeof(*c->groups));
    for (size_t i = 0; i < c->group_count; i++)
        c->groups[i] = get_u32(r);
    c->terminal = get_u8(r) & 1;
    c->columns = get_u16(r);
    c->rows = get_u16(r);
    if (!c->argv[0] || !*c->argv[0])
        r->bad = true;
}

void free_command(struct command *c) {
    free_texts(c->argv);
    free_texts(c->environment);
    free(c->cwd);
    free(c->groups);
    free(c->limits);
    *c = (struct command){0};
}

static int set_limits(const struct command *c) {
    for (size_t i = 0; i < c->limit_count; i++) {
        struct rlimit limit = {c->limits[i].soft, c->limits[i].hard};
        if (setrlimit((int)c->limits[i].resource, &limit) < 0)
            return errno;
    }
    return 0;
}

static int set_ids(const struct command *c) {
    if (setgroups(c->group_count, c->groups) < 0)
        return errno;
    if (setresgid(c->gid, c->gid, c->gid) < 0 || setresuid(c->uid, c->uid, c->uid) < 0)
        return errno;
    return 0;
}

static const char *search_path(const struct command *c) {
    for (char **entry = c->environment; *entry; entry++)
        if (strncmp(*entry, "PATH=", 5) == 0 && (*entry)[5])
            return *entry + 5;
    return DEFAULT_PATH;
}

/* Like execvpe(3), but with the PATH of the new environment, and without a shell for files of unknown format. */
static int execute_found(const struct command *c) {
    const char *name = c->argv[0];
    if (strchr(name, '/')) {
        execve(name, c->argv, c->environment);
        return errno;
    }
    int worst = ENOENT;
    for (const char *place = search_path(c); place; place = strchr(place, ':') ? strchr(place, ':') + 1 : NULL) {
        char file[4096];
        int size = (int)strcspn(place, ":");
        if (snprintf(file, sizeof(file), "%.*s/%s", size, place, name) >= (int)sizeof(file))
            continue;
        execve(size ? file : name, c->argv, c->environment);
        if (errno == EACCES)
            worst = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR)
            return errno;
    }
    return worst;
}

static int enter_directory(const struct command *c) {
    const char *cwd = *c->cwd ? c->cwd : "/";
    if (c->make_cwd) {
        char *made = copy_text(cwd);
        make_directories(made);
        free(made);
    }
    return chdir(cwd) < 0 ? errno : 0;
}

int execute(const struct command *c, const char **stage) {
    int error;
    *stage = "limits";
    if ((error = set_limits(c)))
        return error;
    /* The user may be the only one who can enter it (a home on a file system of another host), or root may. */
    int place = enter_directory(c);
    *stage = "user";
    if ((error = set_ids(c)))
        return error;
    *stage = "directory";
    if (place && (error = enter_directory(c)))
        return error;
    umask(c->mask >= 0 ? (mode_t)c->mask : 022);
    *stage = "program";
    return execute_found(c);
}
