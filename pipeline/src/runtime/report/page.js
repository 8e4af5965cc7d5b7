addEventListener('error',e=>{document.documentElement.dataset.error=e.message});
addEventListener('load',()=>{
  const root=document.documentElement,button=document.getElementById('theme');
  const dark=()=>root.style.colorScheme?root.style.colorScheme==='dark':matchMedia('(prefers-color-scheme: dark)').matches;
  const name=()=>{button.textContent=dark()?'Light':'Dark'};
  button.hidden=false;name();
  button.addEventListener('click',()=>{root.style.colorScheme=dark()?'light':'dark';name()});
  // What is folded away is printed too.
  let opened=[];
  addEventListener('beforeprint',()=>{opened=[...document.querySelectorAll('details:not([open])')];opened.forEach(d=>{d.open=true})});
  addEventListener('afterprint',()=>{opened.forEach(d=>{d.open=false});opened=[]});
  const links=new Map([...document.querySelectorAll('.bar nav a')].map(a=>[a.hash.slice(1),a]));
  // The section that a line near the top of the window crosses is the current one; its link stays in sight.
  const sections=[...document.querySelectorAll('main section')],crossed=new Set();
  const seen=new IntersectionObserver(entries=>{
    for(const entry of entries)crossed[entry.isIntersecting?'add':'delete'](entry.target);
    const link=links.get(sections.find(section=>crossed.has(section))?.id);
    if(!link||link.hasAttribute('aria-current'))return;
    links.forEach(a=>a.removeAttribute('aria-current'));
    link.setAttribute('aria-current','true');
    link.parentElement.scrollLeft=link.offsetLeft-link.parentElement.clientWidth/3;
  },{rootMargin:'-12% 0px -87% 0px'});
  sections.forEach(section=>seen.observe(section));
  root.dataset.ready='1';
});
