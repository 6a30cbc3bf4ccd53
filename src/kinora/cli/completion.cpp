// kinora completion: scripts that complete commands, options and files in a shell, made from the parser itself.
#include <algorithm>
#include <iostream>
#include <memory>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"

namespace kinora::cli {
namespace {

struct CompletedOption {
  std::vector<std::string> names;  ///< "--model", "-m"
  std::string description;
  bool has_value = false, takes_file = false;
};

struct CompletedCommand {
  std::string path;  ///< "kinora bench gemm"
  std::string name, description;
  std::vector<CompletedOption> options;
  std::vector<CompletedCommand> commands;
  bool takes_file = false;  ///< has an argument that is text
};

bool is_text(const CLI::Option& option) { return option.get_type_name().starts_with("TEXT"); }

CompletedCommand read(const CLI::App& app, const std::string& parent) {
  CompletedCommand out;
  out.name = app.get_name(), out.description = app.get_description();
  out.path = parent.empty() ? out.name : parent + " " + out.name;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      out.takes_file = out.takes_file || is_text(*option);
      continue;
    }
    CompletedOption& o = out.options.emplace_back();
    for (const std::string& name : option->get_lnames()) o.names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) o.names.push_back("-" + name);
    o.description = option->get_description();
    o.has_value = option->get_items_expected_max() > 0;
    o.takes_file = o.has_value && is_text(*option);
  }
  for (const CLI::App* command : app.get_subcommands({})) out.commands.push_back(read(*command, out.path));
  return out;
}

/// Every command below and the top itself.
void each(const CompletedCommand& command, const std::function<void(const CompletedCommand&)>& f) {
  f(command);
  for (const CompletedCommand& below : command.commands) each(below, f);
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

/// 'text', with each quote as `quote` and each backslash as `backslash`.
std::string quoted(const std::string& text, const char* quote, const char* backslash) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += quote;
    else if (c == '\\')
      out += backslash;
    else
      out += c;
  }
  return out + "'";
}
std::string zsh_quoted(const std::string& text) { return quoted(text, "'\\''", "\\"); }
std::string fish_quoted(const std::string& text) { return quoted(text, "\\'", "\\\\"); }

/// "kinora generate"|"kinora bench"|... : what a word can lead to.
std::string paths(const CompletedCommand& top) {
  std::vector<std::string> all;
  each(top, [&](const CompletedCommand& c) {
    if (c.path != top.path) all.push_back("\"" + c.path + "\"");
  });
  return joined(all, "|");
}

/// "kinora generate --model"|...: where a value is to come, of a file or of another kind.
std::string values(const CompletedCommand& top, bool files) {
  std::vector<std::string> all;
  each(top, [&](const CompletedCommand& c) {
    for (const CompletedOption& o : c.options) {
      if (!o.has_value || o.takes_file != files) continue;
      for (const std::string& name : o.names) all.push_back("\"" + c.path + " " + name + "\"");
    }
  });
  return joined(all, "|");
}

void bash(const CompletedCommand& top, std::ostream& out) {
  out << "# bash completion for kinora; in ~/.bashrc: source <(kinora completion bash)\n"
         "_kinora() {\n"
         "  local current=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" at=kinora i\n"
         "  local commands= options= files=\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    case \"$at ${COMP_WORDS[i]}\" in\n      "
      << paths(top) << ") at=\"$at ${COMP_WORDS[i]}\" ;;\n    esac\n  done\n  case \"$at\" in\n";
  each(top, [&](const CompletedCommand& c) {
    std::vector<std::string> commands, options;
    for (const CompletedCommand& below : c.commands) commands.push_back(below.name);
    for (const CompletedOption& o : c.options) options.insert(options.end(), o.names.begin(), o.names.end());
    out << "    \"" << c.path << "\") commands=\"" << joined(commands, " ") << "\" options=\"" << joined(options, " ")
        << "\" files=" << (c.takes_file ? "yes" : "") << " ;;\n";
  });
  out << "  esac\n  case \"$at $before\" in\n    " << values(top, true) << ") options= commands= files=yes ;;\n    "
      << values(top, false)
      << ") COMPREPLY=(); return ;;\n  esac\n"
         "  if [[ -n $options && $current == -* ]]; then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$current\")\n"
         "  elif [[ -n $commands ]]; then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$commands\" -- \"$current\")\n"
         "  elif [[ -n $files ]]; then\n"
         "    compopt -o filenames 2>/dev/null\n"
         "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
         "  else\n"
         "    COMPREPLY=()\n"
         "  fi\n"
         "}\n"
         "complete -F _kinora kinora\n";
}

/// 'name:description' as _describe takes it; a colon in a name would need an escape, and none has one.
std::string described(const std::string& name, const std::string& description) {
  return zsh_quoted(name + ":" + description);
}

void zsh(const CompletedCommand& top, std::ostream& out) {
  out << "#compdef kinora\n"
         "# zsh completion for kinora; in ~/.zshrc: source <(kinora completion zsh)\n"
         "_kinora() {\n"
         "  local at=kinora files= i\n"
         "  local -a commands options\n"
         "  for ((i = 2; i < CURRENT; i++)); do\n"
         "    case \"$at ${words[i]}\" in\n      ("
      << paths(top) << ") at=\"$at ${words[i]}\" ;;\n    esac\n  done\n  case \"$at\" in\n";
  each(top, [&](const CompletedCommand& c) {
    out << "    (\"" << c.path << "\")\n      commands=(";
    for (const CompletedCommand& below : c.commands) out << "\n        " << described(below.name, below.description);
    out << ")\n      options=(";
    for (const CompletedOption& o : c.options) {
      for (const std::string& name : o.names) out << "\n        " << described(name, o.description);
    }
    out << ")\n      files=" << (c.takes_file ? "yes" : "") << " ;;\n";
  });
  out << "  esac\n  case \"$at ${words[CURRENT-1]}\" in\n    (" << values(top, true) << ") _files; return ;;\n    ("
      << values(top, false)
      << ") return ;;\n  esac\n"
         "  if [[ ${words[CURRENT]} == -* ]]; then\n"
         "    _describe option options\n"
         "  elif (( $#commands )); then\n"
         "    _describe command commands\n"
         "  elif [[ -n $files ]]; then\n"
         "    _files\n"
         "  fi\n"
         "}\n"
         "if [[ \"${funcstack[1]}\" == _kinora ]]; then _kinora \"$@\"; else compdef _kinora kinora; fi\n";
}

void fish(const CompletedCommand& top, std::ostream& out) {
  out << "# fish completion for kinora: kinora completion fish > ~/.config/fish/completions/kinora.fish\n"
         "function __kinora_at\n"
         "  set -l at kinora\n"
         "  for word in (commandline -opc)[2..-1]\n"
         "    switch \"$at $word\"\n";
  std::vector<std::string> all;
  each(top, [&](const CompletedCommand& c) {
    if (c.path != top.path) all.push_back(fish_quoted(c.path));
  });
  out << "      case " << joined(all, " ")
      << "\n        set at \"$at $word\"\n    end\n  end\n  test \"$at\" = \"$argv[1]\"\nend\n"
         "complete -c kinora -f\n";
  each(top, [&](const CompletedCommand& c) {
    const std::string here = "complete -c kinora -n '__kinora_at \"" + c.path + "\"'";
    if (c.takes_file) out << here << " -F\n";
    for (const CompletedCommand& below : c.commands)
      out << here << " -a " << below.name << " -d " << fish_quoted(below.description) << "\n";
    for (const CompletedOption& o : c.options) {
      out << here;
      for (const std::string& name : o.names)
        out << (name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1));
      out << (o.takes_file ? " -r -F" : o.has_value ? " -x" : "") << " -d " << fish_quoted(o.description) << "\n";
    }
  });
}

}  // namespace

void add_completion(CLI::App& app, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand("completion", "print a script that completes commands and options in a shell");
  c->footer("Example: kinora completion bash > ~/.local/share/bash-completion/completions/kinora");
  c->add_option("shell", *shell, "bash, zsh or fish")->required();
  c->callback([shell, &app, &action] {
    action = [shell, &app](Context&) {
      const CompletedCommand top = read(app, "");
      if (*shell == "bash")
        bash(top, std::cout);
      else if (*shell == "zsh")
        zsh(top, std::cout);
      else if (*shell == "fish")
        fish(top, std::cout);
      else
        throw UsageError(concat("the shell \"", printable(*shell), "\" is not known"), "choose bash, zsh or fish");
      return 0;
    };
  });
}

}  // namespace kinora::cli
