"""``isola completion``, and the hidden verb ``__complete`` that the shells call."""

from __future__ import annotations

from isola.cli import completing
from isola.cli.grammar import Argument, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_BASH = r"""# completion of isola for bash: source <(isola completion bash)
_isola() {
    local IFS=$'\n' word last after= words=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do # bash takes "far:web" apart at the colon
        if [[ ${#words[@]} -gt 0 && ( $word == : || -n $after ) ]]; then words[-1]+=$word; else words+=("$word"); fi
        if [[ $word == : ]]; then after=1; else after=; fi
    done
    COMPREPLY=($(command isola __complete -- "${words[@]}" 2>/dev/null))
    last=${words[-1]}
    [[ $last == "${COMP_WORDS[COMP_CWORD]}" ]] || COMPREPLY=("${COMPREPLY[@]#"${last%:*}:"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    return 0
}
complete -o default -F _isola isola
"""
_ZSH = r"""#compdef isola
# completion of isola for zsh: isola completion zsh > "${fpath[1]}/_isola"
_isola() {
    local -a found
    found=("${(@f)$(command isola __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n ${found[1]} ]] && compadd -Q -a found || _files
}
if [[ ${funcstack[1]} == _isola ]]; then _isola "$@"; else compdef _isola isola; fi
"""
_FISH = r"""# completion of isola for fish: isola completion fish > ~/.config/fish/completions/isola.fish
function __isola_paths
    test -z "$(__isola_complete)"
end
function __isola_complete
    set -l words (commandline -opc) (commandline -ct)
    command isola __complete --describe -- $words[2..-1] 2>/dev/null
end
complete -c isola -f -a '(__isola_complete)'
complete -c isola -n '__isola_paths' -F
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(context: Context) -> None:
    """Print the completion script of a shell."""
    from isola.cli.arguments import UsageError

    shell = context.args.text("SHELL")
    if shell not in _SCRIPTS:
        raise UsageError(f"There is no completion for {shell!r}", hint=f"supported: {', '.join(_SCRIPTS)}")
    context.write(_SCRIPTS[shell].rstrip("\n"))


def complete(context: Context) -> None:
    """Print the candidates for the last argument; with ``--describe``, each with a tab and a description."""
    describe = context.args.flag("describe")
    for candidate in completing.candidates(context.args.many("WORDS") or [""], context.args.text("dir")):
        context.write(candidate if describe else candidate.partition(completing.TAB)[0])


COMMANDS = (
    Command(
        "completion",
        "Print the completion script of a shell",
        completion,
        Argument("SHELL", "bash, zsh or fish", complete="bash zsh fish"),
        examples=(
            ("source <(isola completion bash)", "for this bash"),
            ("isola completion fish > ~/.config/fish/completions/isola.fish", "for every fish"),
        ),
    ),
    Command(
        "__complete",
        "Print the candidates for the last argument",
        complete,
        Argument("WORDS", "The arguments typed so far, the unfinished one last", rest=True, optional=True),
        Option("--describe", "Add a tab and a description to each candidate"),
    ),
)
