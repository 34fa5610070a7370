package pipeline

import (
	"strconv"
	"strings"
	"time"
)

// SandboxFile is what a sandbox file says: services that stand behind pipelines
// while they are developed, with the entries of the catalogue filled in.
type SandboxFile struct {
	// Name is the sandbox's name; "" when the file does not say.
	Name string
	// File is the file as the user named it, Dir the absolute path of its folder.
	File, Dir string
	// Services are in the order of the file.
	Services []Service
}

// Service is one service of a sandbox. Env, Command, HealthCheck.Exec, Connection and
// Inside may hold references, which Refer replaces.
type Service struct {
	// ID is its name in the sandbox and in the sandbox's network.
	ID string
	// Description says what it is, in a few words.
	Description string `json:",omitempty"`
	Image       string
	PullPolicy  PullPolicy
	// User is who runs the program; "" is the image's own. Command is what comes in
	// place of the image's own command, if there is anything.
	User    string   `json:",omitempty"`
	Command []string `json:",omitempty"`
	// Env are the variables, in the order of the file.
	Env []EnvVar `json:",omitempty"`
	// Ports are offered on the host; the first is the one that ${port} means.
	Ports     []Port   `json:",omitempty"`
	Volumes   []Volume `json:",omitempty"`
	DependsOn []string `json:",omitempty"`
	// HealthCheck is nil when neither file nor catalogue has one.
	HealthCheck *Probe `json:",omitempty"`
	// Connection is how programs connect to it, Inside the same for containers in
	// the sandbox's network, "" if they need no other template.
	Connection string `json:",omitempty"`
	Inside     string `json:",omitempty"`
	// Variable is the environment variable that tells pipelines Connection.
	Variable  string
	Resources Resources
	// Stop is how it is asked to end; without Signal as its image says.
	Stop    Stop
	Restart RestartPolicy
	// FromCatalogue is true when the file adds nothing to the catalogue's entry.
	FromCatalogue bool `json:",omitempty"`
}

// Port returns the port of that name or container port; "" is the first one.
func (s *Service) Port(name string) (Port, bool) {
	for _, p := range s.Ports {
		if name == "" || p.Name == name || strconv.Itoa(p.ContainerPort) == name {
			return p, true
		}
	}
	return Port{}, false
}

// variable looks up a variable: of two with one name the later counts.
func (s *Service) variable(name string) (value string, found bool) {
	for _, v := range s.Env {
		if v.Name == name {
			value, found = v.Value, true
		}
	}
	return value, found
}

// Refer replaces what a value of the service refers to: ${host} by host, ${port} and
// ${port.NAME} by what port says of the port, ${env.NAME} by the variable. A variable
// that refers to itself is cut off, as nothing, and so is what grows beyond all measure.
func (s *Service) Refer(value, host string, port func(Port) string) string {
	r := referrer{service: s, host: host, port: port, budget: maxFileSize}
	return r.expand(value, 0)
}

// referrer replaces references. Budget is how many bytes of variables it may still put in.
type referrer struct {
	service *Service
	host    string
	port    func(Port) string
	budget  int
}

func (r *referrer) expand(value string, depth int) string {
	return Expand(value, func(what, name string) string {
		if what == "" {
			what, name = name, ""
		}
		switch what {
		case "host":
			return r.host
		case "port":
			p, _ := r.service.Port(name) // the file was checked
			return r.port(p)
		}
		v, _ := r.service.variable(name)
		if r.budget -= len(v) + 1; r.budget < 0 || depth == maxNesting {
			return ""
		}
		return r.expand(v, depth+1)
	})
}

// LoadSandbox reads a sandbox file. A service with the id of an entry of the catalogue
// is that entry with what the file says in its place; variables are added to the
// entry's. Errors are as with Load; there are no warnings.
func LoadSandbox(path string, opts Options, catalogue []Service) (*SandboxFile, error) {
	source, err := readFile(path)
	if err != nil {
		return nil, Problems{{File: path, Text: err.Error()}}
	}
	dir, err := absoluteFolder(path)
	if err != nil {
		return nil, err
	}
	return ParseSandbox(path, dir, source, opts, catalogue)
}

// ParseSandbox reads a sandbox file from source; file and dir are as with Parse.
func ParseSandbox(file, dir string, source []byte, opts Options, catalogue []Service) (*SandboxFile, error) {
	d, root, err := newDecoder(file, dir, source, opts)
	if err != nil {
		return nil, err
	}
	d.environ["host"], d.environ["port"] = hostMark, portMark
	f, _ := sandboxShape(catalogue).read(d, root, "")
	f.File, f.Dir = file, dir
	d.checkServices(f.Services)
	if wrong, _ := d.problems.split(); len(wrong) > 0 {
		return nil, wrong
	}
	return &f, nil
}

// What ${host} and ${port} are while a file is read: the text that no file can hold
// comes after that.
const (
	hostMark = "\x01host\x01"
	portMark = "\x01port\x01"
)

// referring turns the marks into references that Expand finds.
func referring(value string) string {
	return strings.NewReplacer(hostMark, mark+".host"+mark, portMark, mark+".port"+mark).Replace(value)
}

// defaultServiceStop leaves the signal to the image, which knows best.
func defaultServiceStop() Stop { return Stop{Grace: 10 * time.Second} }
